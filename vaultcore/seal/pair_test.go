package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func pairing(t *testing.T) (*Pairing, *PairQuestion) {
	t.Helper()
	p := NewPairing()
	q, err := p.Question()
	if err != nil {
		t.Fatal(err)
	}
	return p, q
}

func TestPairing(t *testing.T) {
	p, q := pairing(t)
	vault, vk := NewID(), NewKey()
	code := q.Code()
	if len(code) != 19 || len(q.Encode()) > 8<<10 {
		t.Fatalf("code %q, question of %d bytes", code, len(q.Encode()))
	}
	for _, spelling := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", " ")} {
		read, err := ParsePairQuestion(q.Encode(), spelling)
		if err != nil || read.Device != p.Device() {
			t.Fatalf("%q: %v", spelling, err)
		}
	}
	read, _ := ParsePairQuestion(q.Encode(), code)
	answer, err := read.Answer(vault, &vk)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Open(vault, answer)
	if err != nil || !got.Equal(&vk) {
		t.Fatal(err)
	}
	name, err := PairName(code)
	if again, _ := PairName(strings.ToLower(code)); err != nil || len(name) != 32 || again != name {
		t.Fatalf("name %q, %v", name, err)
	}
}

// Fixed inputs: the code and the name of two known keys.
func TestVectorsPairing(t *testing.T) {
	q := &PairQuestion{hpke: bytes.Repeat([]byte{1}, recoveryPKSize)}
	for i := range q.Device.PK {
		q.Device.PK[i] = 2
	}
	name, err := PairName(q.Code())
	if got, want := q.Code()+" "+name, "CNCQ-4AP2-D38F-1PFG f10487e1b1525a6c2d7e583d48ee2363"; err != nil || got != want {
		t.Errorf("%s, want %s, %v", got, want, err)
	}
}

func TestPairingHostile(t *testing.T) {
	p, q := pairing(t)
	other, swapped := pairing(t)
	vault, vk := NewID(), NewKey()
	if _, err := ParsePairQuestion(swapped.Encode(), q.Code()); !errors.Is(err, ErrPair) {
		t.Errorf("another's question: %v", err)
	}
	// One half of the keys exchanged.
	for _, mixed := range []*PairQuestion{{Device: q.Device, hpke: swapped.hpke}, {Device: swapped.Device, hpke: q.hpke}} {
		if _, err := ParsePairQuestion(mixed.Encode(), q.Code()); !errors.Is(err, ErrPair) {
			t.Errorf("mixed question: %v", err)
		}
	}
	for _, code := range []string{"", "ABCD", q.Code() + "A", strings.Repeat("U", 16)} {
		if _, err := PairName(code); !errors.Is(err, ErrPair) {
			t.Errorf("code %q: %v", code, err)
		}
	}
	for _, text := range []string{"", "{}", "null", strings.Replace(string(q.Encode()), `"v":1`, `"v":2`, 1), string(q.Encode()) + " x",
		strings.Replace(string(q.Encode()), `"v":1`, `"v":1,"V":1`, 1)} {
		if _, err := ParsePairQuestion([]byte(text), q.Code()); !errors.Is(err, ErrFormat) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
	answer, err := q.Answer(vault, &vk)
	if err != nil {
		t.Fatal(err)
	}
	otherVault, err := q.Answer(NewID(), &vk)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(answer)
	flipped[len(flipped)-1] ^= 1
	for name, a := range map[string][]byte{"another vault's": otherVault, "altered": flipped, "cut": answer[:100], "nothing": nil} {
		if _, err := p.Open(vault, a); !errors.Is(err, ErrPair) {
			t.Errorf("answer, %s: %v", name, err)
		}
	}
	if _, err := other.Open(vault, answer); !errors.Is(err, ErrPair) {
		t.Errorf("an earlier answer: %v", err)
	}
	moved := *q
	moved.Device.ID = NewID() // the code does not cover the id, the answer does
	a, _ := moved.Answer(vault, &vk)
	if _, err := p.Open(vault, a); !errors.Is(err, ErrPair) {
		t.Errorf("answer to another id: %v", err)
	}
}
