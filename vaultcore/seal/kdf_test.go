package seal

import (
	"bytes"
	"strings"
	"testing"
)

// One real derivation, at the floor: NFC and the parameters reach Argon2id.
func TestDeriveKEK(t *testing.T) {
	p := LowKDF()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	p.Salt = [16]byte(seq(0x40, 16))
	nfd, nfc := []byte("scho\u0308nes Passwort"), []byte("schönes Passwort")
	before := bytes.Clone(nfd)
	a := must[Key](t)(DeriveKEK(nfd, p))
	b := must[Key](t)(DeriveKEK(nfc, p))
	if !a.Equal(&b) {
		t.Error("two spellings of one password give two keys")
	}
	if !bytes.Equal(nfd, before) {
		t.Error("the caller's password was changed")
	}
	// The value is that of another implementation (OpenSSL).
	wantHex(t, "KEK", a.Bytes(), "4f61b4557a17ba21a140b4c915949267f821a7b641b2cb86ebc74bca0fcf9935")
	p.Salt[0]++
	if c := must[Key](t)(DeriveKEK(nfc, p)); c.Equal(&a) {
		t.Error("the salt changes nothing")
	}
	_, err := DeriveKEK([]byte("\xff"), p)
	wantErr(t, "not UTF-8", err, ErrPassword)
}

func TestDefaultKDF(t *testing.T) {
	a, b := DefaultKDF(), DefaultKDF()
	if a.Check() != nil || a.Memory != 262144 || a.Time != 3 || a.Parallelism != 4 || a.Salt == b.Salt {
		t.Errorf("got %+v", a)
	}
	if l := LowKDF(); l.Memory != 65536 || l.Time != 3 || l.Parallelism != 4 {
		t.Errorf("got %+v", l)
	}
	if max := (KDFParams{Memory: 2 << 20, Time: 16, Parallelism: 16}); max.Check() != nil {
		t.Error("the ceiling itself is refused")
	}
}

func TestCheckPassword(t *testing.T) {
	for _, good := range []string{"twelve chars", "Schlüssel!äö", "𝔳𝔳𝔳𝔳𝔳𝔳𝔳𝔳𝔳𝔳𝔳𝔳", "ox am zu ab", "correct horse battery staple", strings.Repeat("x", 1000)} {
		if err := CheckPassword([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, weak := range []string{"", "short", "eleven char", "a b c d", "a b c de f", strings.Repeat("o\u0308", 11), "           ", "twelve chars\xff", "ab cd ef"} {
		wantErr(t, weak, CheckPassword([]byte(weak)), ErrWeakPassword)
	}
}
