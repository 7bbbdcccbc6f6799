package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func TestEscapeName(t *testing.T) {
	for in, want := range map[string]string{
		"plain name.pdf":         "plain name.pdf",
		"Grüße 日本語.txt":          "Grüße 日本語.txt",
		"family 👨\u200d👩\u200d👧": "family 👨\u200d👩\u200d👧",
		"a\nb\tc":                `a\x0ab\x09c`,
		"\x1b[31mred":            `\x1b[31mred`,
		"c1\u009bm":              `c1\x9bm`,
		"exe\u202efdp":           `exe\u202efdp`,
		"iso\u2066late\u2069":    `iso\u2066late\u2069`,
		"line\u2028break":        `line\u2028break`,
		"tag\U000e0041":          `tag\U000e0041`,
		"bad\xff\xfeutf8":        `bad\xff\xfeutf8`,
		"\ufffd is a character":  "\ufffd is a character",
		"":                       "",
	} {
		if got := escapeName(in); got != want {
			t.Errorf("escapeName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNamesAreRawInAPipe(t *testing.T) {
	u, _, _ := testUI()
	if got := u.name("a\x1bb"); got != "a\x1bb" {
		t.Errorf("in a pipe: %q", got)
	}
	u.outTerm = true
	if got := u.name("a\x1bb"); got != `a\x1bb` {
		t.Errorf("on a terminal: %q", got)
	}
}

func TestJSONIsSafeAndMeansTheSame(t *testing.T) {
	u, out, _ := testUI()
	want := map[string]string{"name": "a\x1b\u009b\u202e\u2028\U000e0041<é>日"}
	if err := u.writeJSON(want); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(strings.ReplaceAll(out.String(), "\n", ""), vaultcore.UnsafeRune) {
		t.Errorf("unsafe characters in %q", out)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil || got["name"] != want["name"] {
		t.Errorf("read back %q, %v; want %q", got, err, want)
	}
}

func TestHumanSize(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 10240: "10 KiB", 1<<20 - 1: "1.0 MiB",
		26214400: "25 MiB", 1 << 40: "1.0 TiB", 1<<62 + 1: "4096 PiB",
	} {
		if got := humanSize(in); got != want {
			t.Errorf("humanSize(%d) = %q, want %q", in, got, want)
		}
	}
}

// A bar appears late, and its rate is of all the time that the work has taken.
func TestProgressAppearsWithItsRate(t *testing.T) {
	u, _, said := testUI()
	u.errTerm = true
	p := u.progress("work", true)
	began := p.start
	p.start = began.Add(time.Hour) // however long this test is held up here
	p.set(500, 4000)
	if said.Len() > 0 {
		t.Errorf("it appears at once: %q", said)
	}
	p.start = began
	for deadline := time.Now().Add(5 * time.Minute); said.Len() == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		p.set(2000, 4000)
	}
	if got := said.String(); !strings.Contains(got, "50%") || strings.Contains(got, "MB/s") || strings.Contains(got, "GB/s") || !strings.Contains(got, "B/s") {
		t.Errorf("2000 bytes in more than a second: %q", got)
	}
	p.finish()
}

func TestProgressIsSilentInAPipe(t *testing.T) {
	u, _, said := testUI()
	p := u.progress("work", true)
	p.start = p.start.Add(-2 * progressDelay)
	p.set(1, 2)
	p.finish()
	if said.Len() > 0 {
		t.Errorf("a bar in a pipe: %q", said)
	}
}
