package main

import (
	"bytes"
	"fmt"
	"strings"
)

// pdfWriter numbers the objects of a PDF 1.4 file (ISO 32000-1, section 7.5)
// and remembers where each begins, for the table at the end.
type pdfWriter struct {
	buf     bytes.Buffer
	offsets []int
}

// The first objects have fixed numbers; pages follow, two objects each.
const (
	pdfCatalog = 1 + iota
	pdfPages
	pdfFontBody
	pdfFontTitle
	pdfInfo
	pdfFirstPage
)

// writePDF makes a document of A4 pages of text lines in the standard
// Helvetica; the first line of a page is its title. Text is ASCII.
func writePDF(title string, pages [][]string) []byte {
	w := &pdfWriter{}
	w.buf.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
	w.object(fmt.Sprintf("<< /Type /Catalog /Pages %d 0 R >>", pdfPages))
	var kids strings.Builder
	for i := range pages {
		fmt.Fprintf(&kids, "%d 0 R ", pdfFirstPage+2*i)
	}
	w.object(fmt.Sprintf("<< /Type /Pages /Kids [ %s] /Count %d >>", kids.String(), len(pages)))
	w.object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
	w.object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>")
	w.object(fmt.Sprintf("<< /Title (%s) /Producer (vaultdrive) /CreationDate (D:20260101120000Z) >>", pdfString(title)))
	for i, lines := range pages {
		w.object(fmt.Sprintf("<< /Type /Page /Parent %d 0 R /MediaBox [0 0 595 842] "+
			"/Resources << /Font << /F1 %d 0 R /F2 %d 0 R >> >> /Contents %d 0 R >>",
			pdfPages, pdfFontBody, pdfFontTitle, pdfFirstPage+2*i+1))
		text := pdfText(lines)
		w.object(fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(text), text))
	}
	return w.end()
}

func (w *pdfWriter) object(body string) {
	w.offsets = append(w.offsets, w.buf.Len())
	fmt.Fprintf(&w.buf, "%d 0 obj\n%s\nendobj\n", len(w.offsets), body)
}

// end writes the cross-reference table, whose entries have 20 bytes each.
func (w *pdfWriter) end() []byte {
	table := w.buf.Len()
	fmt.Fprintf(&w.buf, "xref\n0 %d\n0000000000 65535 f \n", len(w.offsets)+1)
	for _, off := range w.offsets {
		fmt.Fprintf(&w.buf, "%010d 00000 n \n", off)
	}
	fmt.Fprintf(&w.buf, "trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n",
		len(w.offsets)+1, pdfCatalog, pdfInfo, table)
	return w.buf.Bytes()
}

// pdfText sets lines from the top of the page.
func pdfText(lines []string) string {
	var b strings.Builder
	b.WriteString("BT\n/F2 24 Tf 72 740 Td 20 TL\n")
	for i, line := range lines {
		fmt.Fprintf(&b, "(%s) Tj T*\n", pdfString(line))
		if i == 0 {
			b.WriteString("/F1 12 Tf\n")
		}
	}
	b.WriteString("ET")
	return b.String()
}

func pdfString(s string) string {
	return strings.NewReplacer(`\`, `\\`, `(`, `\(`, `)`, `\)`).Replace(s)
}
