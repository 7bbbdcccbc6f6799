package main

import (
	"bytes"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func demoPDF(t *testing.T) []byte {
	t.Helper()
	files, err := demoFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.path, ".pdf") {
			return f.content
		}
	}
	t.Fatal("no PDF in the demo")
	return nil
}

// TestPDFTable follows the cross-reference table by hand: every offset must
// lead to the object it counts.
func TestPDFTable(t *testing.T) {
	pdf := demoPDF(t)
	start := regexp.MustCompile(`startxref\n(\d+)\n%%EOF\n$`).FindSubmatch(pdf)
	if start == nil {
		t.Fatal("no startxref at the end")
	}
	table, _ := strconv.Atoi(string(start[1]))
	lines := strings.SplitAfter(string(pdf[table:]), "\n")
	count, _ := strconv.Atoi(strings.Fields(lines[1])[1])
	for n := 1; n < count; n++ {
		entry := lines[2+n]
		if len(entry) != 20 {
			t.Fatalf("entry %d has %d bytes: %q", n, len(entry), entry)
		}
		off, _ := strconv.Atoi(strings.TrimLeft(entry[:10], "0"))
		if want := strconv.Itoa(n) + " 0 obj\n"; !bytes.HasPrefix(pdf[off:], []byte(want)) {
			t.Errorf("object %d: %q at its offset", n, pdf[off:off+12])
		}
	}
}

func TestPDFByPoppler(t *testing.T) {
	for _, tool := range []string{"pdfinfo", "pdftotext"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (package poppler-utils)", tool)
		}
	}
	path := filepath.Join(t.TempDir(), "demo.pdf")
	if err := os.WriteFile(path, demoPDF(t), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := exec.Command("pdfinfo", path).CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^Pages:\s+3$`).Match(info) || bytes.Contains(info, []byte("rror")) {
		t.Errorf("pdfinfo: %v\n%s", err, info)
	}
	text, err := exec.Command("pdftotext", path, "-").CombinedOutput()
	if err != nil || strings.Count(string(text), "\f") != 3 || !strings.Contains(string(text), "lock must be a good one)") {
		t.Errorf("pdftotext: %v\n%s", err, text)
	}
}

func TestDemoPicture(t *testing.T) {
	b, err := demoPicture(64, 40)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil || img.Bounds().Dx() != 64 || img.Bounds().Dy() != 40 {
		t.Errorf("decoded %v, %v", img.Bounds(), err)
	}
}
