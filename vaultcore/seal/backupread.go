package seal

import (
	"fmt"
	"math"
	"strconv"
)

// ParseManifest reads exactly what Encode writes. Its memory is in proportion to
// b. Errors: ErrNewer for another version, else ErrFormat or ErrTooLarge.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("%w: manifest of %d bytes", ErrTooLarge, len(b))
	}
	r := &manifestReader{rest: b}
	m := r.manifest()
	if r.err == nil && len(r.rest) > 0 {
		r.fail()
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, m.check()
}

// manifestReader reads the one spelling of a manifest; the first error sticks.
type manifestReader struct {
	rest []byte
	err  error
}

func (r *manifestReader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("%w: manifest, %d bytes before its end", ErrFormat, len(r.rest))
	}
	r.rest = nil
}

// lit takes fixed text.
func (r *manifestReader) lit(s string) {
	if !r.try(s) {
		r.fail()
	}
}

func (r *manifestReader) try(s string) bool {
	if len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		return false
	}
	r.rest = r.rest[len(s):]
	return true
}

// text takes a string without escapes, of which nothing here has any.
func (r *manifestReader) text() string {
	r.lit(`"`)
	for i, c := range r.rest[:min(len(r.rest), 256)] {
		if c == '"' {
			s := string(r.rest[:i])
			r.rest = r.rest[i+1:]
			return s
		}
		if c < 0x20 || c > 0x7e || c == '\\' {
			break
		}
	}
	r.fail()
	return ""
}

func (r *manifestReader) number(high uint64) uint64 {
	i := 0
	for i < len(r.rest) && i < 20 && r.rest[i] >= '0' && r.rest[i] <= '9' {
		i++
	}
	s := string(r.rest[:i])
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > high || strconv.FormatUint(n, 10) != s {
		r.fail()
		return 0
	}
	r.rest = r.rest[i:]
	return n
}

func (r *manifestReader) id() ID    { return takeText(r, ParseUUID) }
func (r *manifestReader) hexID() ID { return takeText(r, ParseHex) }
func (r *manifestReader) hash() (h [32]byte) {
	b := takeText(r, DecodeBase64)
	if len(b) != len(h) {
		r.fail()
		return h
	}
	return [32]byte(b)
}

func takeText[T any](r *manifestReader, parse func(string) (T, error)) T {
	v, err := parse(r.text())
	if err != nil {
		r.fail()
	}
	return v
}

func (r *manifestReader) manifest() *Manifest {
	m := &Manifest{}
	r.lit(`{"format":"` + backupFormat + `","v":`)
	if v := r.number(maxJSONInt); r.err == nil && v != backupVersion {
		r.fail()
		r.err = fmt.Errorf("%w: backup of version %d", ErrNewer, v)
	}
	r.lit(`,"vault":`)
	m.Vault = r.id()
	r.lit(`,"did":`)
	m.DID = r.text()
	r.lit(`,"device":`)
	m.Device = r.id()
	r.lit(`,"created":`)
	m.Created = int64(r.number(maxCreated))
	r.lit(`,"epoch":`)
	m.Epoch = uint32(r.number(math.MaxUint32))
	r.lit(`,"heads":{`)
	m.Heads = r.heads()
	r.lit(`,"state":`)
	m.State = r.hash()
	r.lit(`,"missing":[`)
	r.list(func() { m.Missing = append(m.Missing, r.hexID()) })
	r.lit(`,"files":[`)
	r.list(func() { m.Files = append(m.Files, r.file()) })
	r.lit(`}`)
	return m
}

// list takes items up to the closing bracket.
func (r *manifestReader) list(item func()) {
	for first := true; r.err == nil && !r.try("]"); first = false {
		if !first {
			r.lit(",")
		}
		item()
	}
}

func (r *manifestReader) heads() map[ID]Head {
	heads := map[ID]Head{}
	var last ID
	for r.err == nil && !r.try("}") {
		if len(heads) > 0 {
			r.lit(",")
		}
		id := r.id()
		r.lit(`:{"seq":`)
		h := Head{Seq: r.number(maxJSONInt)}
		r.lit(`,"hash":`)
		h.Hash = r.hash()
		r.lit(`}`)
		if compareIDs(last, id) >= 0 || len(heads) == maxDevices {
			r.fail()
		}
		last, heads[id] = id, h
	}
	return heads
}

func (r *manifestReader) file() (f BackupFile) {
	r.lit(`{"p":`)
	name := r.text()
	r.lit(`,"n":`)
	f.Size = int64(r.number(maxSealedV4))
	r.lit(`,"h":`)
	f.Hash = r.hash()
	r.lit(`}`)
	if r.err == nil && parseFileName(name, &f) != nil {
		r.fail()
	}
	return f
}
