package api

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzAudience: the one spelling of an address is its own.
func FuzzAudience(f *testing.F) {
	for _, seed := range []string{"https://Example.COM:443/", "http://[::1]:80", "https://x:8443", "HTTP://a.b:", "https://user@x", "https://x?y", "https://[fe80::1%25eth0]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		once, err := Audience(address)
		if err != nil {
			return
		}
		if again, err := Audience(once); err != nil || again != once {
			t.Fatalf("%q is %q, and that is %q, %v", address, once, again, err)
		}
	})
}

// FuzzUnmarshalInput: what it takes, encoding/json takes alike, and it takes what
// Unmarshal does but for what is too long.
func FuzzUnmarshalInput(f *testing.F) {
	for _, seed := range []string{`{"at":1,"rows":[{}]}`, `{"a":{"a":1,"a":2}}`, `[]`, `{"A":1}`, `{"rows":null} x`, "\xff", `{"rows":[{"created_at":"x"}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var in, strict, plain PutRows
		err := UnmarshalInput(b, &in)
		if wide := Unmarshal(b, &strict); (err == nil) != (wide == nil) && bytes.Count(b, []byte(",")) < maxMembers {
			t.Fatalf("%q: %v and %v", b, err, wide)
		}
		if err != nil {
			return
		}
		if err := json.Unmarshal(b, &plain); err != nil {
			t.Fatalf("%q: encoding/json: %v", b, err)
		}
		x, _ := json.Marshal(in)
		if y, _ := json.Marshal(plain); !bytes.Equal(x, y) {
			t.Fatalf("%q: %s and %s", b, x, y)
		}
	})
}

// FuzzSealed3: what is taken for a sealed name is JSON of the two fields.
func FuzzSealed3(f *testing.F) {
	f.Add(`{"iv":"AAAAAAAAAAAAAAAA","ciphertext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}`)
	f.Add(`{"iv":"","ciphertext":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		if Sealed3(text) != nil {
			return
		}
		var k WrappedKey
		if err := json.Unmarshal([]byte(text), &k); err != nil || len(k.IV) != 16 || len(k.Ciphertext) < 24 {
			t.Fatalf("%q: %+v, %v", text, k, err)
		}
	})
}
