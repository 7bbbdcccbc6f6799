package syncer

import (
	"errors"
	"strings"
	"testing"
)

const (
	someID   = "0123abcd-0000-4000-8000-00000000000f"
	someBlob = "0123456789abcdef0123456789abcdef"
)

func TestKeys(t *testing.T) {
	name := CheckpointName(someID, 7)
	for key, want := range map[string]Key{
		MarkerKey:              {Kind: KeyMarker},
		HeaderKey(1):           {Kind: KeyHeader, Seq: 1},
		HeaderKey(1<<64 - 1):   {Kind: KeyHeader, Seq: 1<<64 - 1},
		BatchKey(someID, 12):   {Kind: KeyBatch, Device: someID, Seq: 12},
		CheckpointKey(name, 3): {Kind: KeyCheckpoint, Device: someID, Seq: 7, Name: name, Part: "3"},
		CheckpointEnd(name):    {Kind: KeyCheckpoint, Device: someID, Seq: 7, Name: name, Part: "m"},
		PairQuestion(someBlob): {Kind: KeyPair, Name: someBlob, Part: "q"},
		PairAnswer(someBlob):   {Kind: KeyPair, Name: someBlob, Part: "a"},
	} {
		if got, err := ParseKey(key); got != want || err != nil {
			t.Errorf("%s: %+v, %v", key, got, err)
		}
	}
}

func TestHostileKeys(t *testing.T) {
	for _, key := range []string{
		"", "tip", "gc/x", "blobs/" + someBlob + ".bin", "vault/", "/vault", "../vault", "headers/1.json",
		"headers/00000000000000000000.json", "headers/99999999999999999999.json", "headers/0000000000000000001x.json",
		"log/" + strings.ToUpper(someID) + "/00000000000000000001.vdb", "log/../00000000000000000001.vdb",
		"checkpoints/x/1", "checkpoints/" + CheckpointName(someID, 1) + "/0", "checkpoints/" + CheckpointName(someID, 1) + "/01",
		"checkpoints/" + CheckpointName(someID, 1) + "/-1", "pair/" + someBlob + "/x", "pair/x/q",
	} {
		if k, err := ParseKey(key); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %+v, %v", key, k, err)
		}
	}
}

func TestMarker(t *testing.T) {
	m := Marker{Version: 1, Vault: someID, Remote: someBlob}
	if got, err := ParseMarker(m.Encode()); got != m || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "{}", "null", `{"v":2,"vault":"` + someID + `","remote":"` + someBlob + `"}`, `{"v":1,"vault":"x","remote":"y"}`} {
		if _, err := ParseMarker([]byte(text)); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(BatchKey(someID, 1))
	f.Add(HeaderKey(2))
	f.Add(CheckpointEnd(CheckpointName(someID, 3)))
	f.Add(PairAnswer(someBlob))
	f.Fuzz(func(t *testing.T, key string) {
		k, err := ParseKey(key)
		if err != nil {
			return
		}
		again := map[KeyKind]string{
			KeyMarker: MarkerKey, KeyHeader: HeaderKey(k.Seq), KeyBatch: BatchKey(k.Device, k.Seq),
			KeyCheckpoint: "checkpoints/" + CheckpointName(k.Device, k.Seq) + "/" + k.Part, KeyPair: "pair/" + k.Name + "/" + k.Part,
		}[k.Kind]
		if again != key {
			t.Errorf("%q became %q", key, again)
		}
	})
}
