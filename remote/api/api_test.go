package api

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// The vector of CRYPTO.md section 14.
func TestLoginVector(t *testing.T) {
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = byte(1 + i)
	}
	key := ed25519.NewKeyFromSeed(seed)
	p := LoginProof{Audience: "https://sync.example", DID: didkey.Format(key.Public().(ed25519.PublicKey)), IssuedAt: 1767225600000, Expires: 1767225660000}
	if want := "did:key:z6MkneMkZqwqRiU5mJzSG3kDwzt9P8C59N4NGTfBLfSGE7c7"; p.DID != want {
		t.Fatalf("DID %s, want %s", p.DID, want)
	}
	for i := range p.Device {
		p.Device[i] = byte(0x30 + i)
	}
	for i := range p.Nonce {
		p.Nonce[i] = byte(0xe0 + i)
	}
	want, _ := hex.DecodeString("5add1e017bfbd458b5c118ccaf71b003adee0926fe7072353606eb17c02339e83fb7285a93e48792a2f595df1df3b6e9ad354f19fba81f15d15c24157322ba06")
	if got := ed25519.Sign(key, p.Message()); string(got) != string(want) {
		t.Fatalf("signature %x, want %x", got, want)
	}
	pk := key.Public().(ed25519.PublicKey)
	at := time.UnixMilli(p.IssuedAt)
	if err := p.Verify(pk, want, at); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *LoginProof, at *time.Time){
		"audience": func(p *LoginProof, _ *time.Time) { p.Audience = "https://evil.example" },
		"did":      func(p *LoginProof, _ *time.Time) { p.DID += "x" },
		"device":   func(p *LoginProof, _ *time.Time) { p.Device[0]++ },
		"nonce":    func(p *LoginProof, _ *time.Time) { p.Nonce[31]++ },
		"longer":   func(p *LoginProof, _ *time.Time) { p.Expires++ },
		"backward": func(p *LoginProof, _ *time.Time) { p.Expires = p.IssuedAt },
		"late":     func(p *LoginProof, at *time.Time) { *at = at.Add(ChallengeLife + LoginWindow + time.Second) },
		"early":    func(p *LoginProof, at *time.Time) { *at = at.Add(-LoginWindow - time.Second) },
	} {
		q, when := p, at
		change(&q, &when)
		if err := q.Verify(pk, want, when); !errors.Is(err, ErrLogin) {
			t.Errorf("%s changed: %v, want ErrLogin", name, err)
		}
	}
}

func TestAudience(t *testing.T) {
	for in, want := range map[string]string{
		"https://Sync.Example": "https://sync.example", "https://sync.example:443/": "https://sync.example", "http://h:80": "http://h",
		"http://127.0.0.1:8080": "http://127.0.0.1:8080", "https://[::1]:444": "https://[::1]:444", "HTTPS://a:80": "https://a:80",
	} {
		if got, err := Audience(in); got != want || err != nil {
			t.Errorf("Audience(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "ftp://a", "https://", "https://a/b", "https://u@a", "https://a?b", "https://a#b", "a.example"} {
		if got, err := Audience(bad); err == nil {
			t.Errorf("Audience(%q) = %q, want an error", bad, got)
		}
	}
}

func TestStrictJSON(t *testing.T) {
	var v struct {
		A int `json:"a"`
	}
	if err := Unmarshal([]byte(` {"a":1,"later":{"x":[1,2,{}]}} `), &v); err != nil || v.A != 1 {
		t.Fatalf("%v, %v", v, err)
	}
	for name, bad := range map[string]string{
		"repeated": `{"a":1,"a":2}`, "repeated inside": `{"b":[{"c":1,"c":1}]}`, "case": `{"A":1}`, "both cases": `{"a":1,"A":2}`,
		"behind": `{"a":1} {}`, "utf8": "{\"a\":\"\xff\"}", "open": `{"a":1`, "nothing": ``, "escaped twice": `{"a":1,"\u0061":2}`,
		"deep": strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "type": `{"a":"1"}`,
	} {
		if err := Unmarshal([]byte(bad), &v); !errors.Is(err, ErrJSON) {
			t.Errorf("%s: %v, want ErrJSON", name, err)
		}
	}
}

// What does not fit is named as the sender wrote it, not as a type of ours, and the
// refusal says in which field it is.
func TestStrictJSONNamesField(t *testing.T) {
	for _, c := range []struct {
		body        string
		into        any
		field, text string
	}{
		{`{"size_bytes":1e2}`, &UploadJSON{}, "size_bytes", `"size_bytes" is of another type than what came: number 1e2`},
		{`{"file_name_encrypted":5}`, &UploadJSON{}, "file_name_encrypted", `"file_name_encrypted" is of another type than what came: number`},
		{`{"wrapped_file_key":{"iv":[]}}`, &UploadJSON{}, "wrapped_file_key.iv", `"wrapped_file_key.iv" is of another type than what came: array`},
		{`{"row":{"created_at":"yesterday"}}`, &Metadata{}, "row.created_at", `"row.created_at" is of another type than what came: string that is no time`},
		{`{"rows":[{"version":"1"}]}`, &PutRows{}, "rows.version", `"rows.version" is of another type than what came: string`},
		{`[]`, &UploadJSON{}, "", "what came is of the wrong type: array"},
	} {
		err := Unmarshal([]byte(c.body), c.into)
		if want := "not strict JSON: " + c.text; !errors.Is(err, ErrJSON) || err.Error() != want {
			t.Errorf("%s: %v, want %s", c.body, err, want)
		}
		if e := BadJSON(err); e.Code != CodeBadRequest || e.Field != c.field || e.Text != err.Error() {
			t.Errorf("%s is refused as %+v", c.body, e)
		}
	}
	if e := BadJSON(Unmarshal([]byte(`{`), &UploadJSON{})); e.Field != "" || e.Code != CodeBadRequest {
		t.Errorf("half a body is refused as %+v", e)
	}
}

func TestDecode64(t *testing.T) {
	if b, err := Decode64("aGk=", 2); err != nil || string(b) != "hi" {
		t.Fatalf("%q, %v", b, err)
	}
	for _, bad := range []string{"aGk", "aGl=", "aG\nk=", "aGk=\n", "aGk==", "a-k=", "aGkh"} {
		if _, err := Decode64(bad, 2); !errors.Is(err, ErrJSON) {
			t.Errorf("Decode64(%q) = %v, want ErrJSON", bad, err)
		}
	}
}

func TestSealedSize(t *testing.T) {
	for _, c := range []struct {
		version     int
		plain, want int64
		ok          bool
	}{
		{3, 0, 28, true}, {3, MaxFile, 26_214_428, true}, {3, MaxFile + 1, MaxFile + 29, false},
		{4, 0, 80, true}, {4, 1, 81, true}, {4, 16383, 16463, true}, {4, 16384, 16480, true}, {4, 40000, 40112, true},
		{4, 1<<40 + 1, 0, false}, {2, 1, 0, false}, {3, -1, 0, false},
	} {
		if got, ok := SealedSize(c.version, c.plain); ok != c.ok || ok && got != c.want {
			t.Errorf("SealedSize(%d, %d) = %d, %v, want %d, %v", c.version, c.plain, got, ok, c.want, c.ok)
		}
	}
	for plain := range int64(3 * 16384) {
		stored, _ := SealedSize(4, plain)
		if got, ok := PlainSize4(stored); got != plain || !ok {
			t.Fatalf("PlainSize4(%d) = %d, %v, want %d", stored, got, ok, plain)
		}
	}
	for _, bad := range []int64{0, 79, 64 + 16400, 64 + 16400 + 15} {
		if got, ok := PlainSize4(bad); ok {
			t.Errorf("PlainSize4(%d) = %d", bad, got)
		}
	}
	if MaxBase64 != 34_952_572 {
		t.Errorf("MaxBase64 = %d", MaxBase64)
	}
}

// Every code has its status, and answers keep code, field and quota.
func TestErrorBody(t *testing.T) {
	for code := range statuses {
		if code.Status() < 400 {
			t.Errorf("%s: status %d", code, code.Status())
		}
	}
	if Code("new").Status() != 500 {
		t.Error("an unknown code has a status of its own")
	}
	e := Errorf(CodeQuotaExceeded, "no room")
	e.Quota, e.RequestID = &Quota{Usage: 90, Limit: 100, Remaining: 10}, "r1"
	b, err := json.Marshal(e)
	if want := `{"error":"no room","code":"quota_exceeded","request_id":"r1","usage":90,"limit":100,"remaining":10}`; string(b) != want || err != nil {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
	if secret := AsError(errors.New("secret")); strings.Contains(secret.Text, "secret") || secret.Status != 500 {
		t.Errorf("an internal error says %q", secret.Text)
	}
}

func TestSealedText(t *testing.T) {
	iv, ct := base64.StdEncoding.EncodeToString(make([]byte, 12)), base64.StdEncoding.EncodeToString(make([]byte, 20))
	text := `{"iv":"` + iv + `","ciphertext":"` + ct + `"}`
	quoted, _ := json.Marshal(text)
	for _, in := range []string{string(quoted), text} {
		var s SealedText
		if err := json.Unmarshal([]byte(in), &s); err != nil || string(s) != text || Sealed3(string(s)) != nil {
			t.Errorf("%s: %q, %v", in, s, err)
		}
	}
	for _, bad := range []string{"", "{}", strings.Replace(text, ct, "AAAA", 1), strings.Replace(text, iv, "AAAA", 1)} {
		if Sealed3(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)
	b, err := json.Marshal(Time(at))
	if string(b) != `"2026-03-05T12:00:00.000Z"` || err != nil {
		t.Fatalf("%s, %v", b, err)
	}
	var back Time
	if err := json.Unmarshal(b, &back); err != nil || !time.Time(back).Equal(at) {
		t.Fatalf("%v, %v", time.Time(back), err)
	}
}
