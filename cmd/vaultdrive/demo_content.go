package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
)

// demoFile is one document of the demo vault.
type demoFile struct {
	path    string
	content []byte
}

// demoFiles makes the documents: a PDF of several pages, a picture, texts.
func demoFiles() ([]demoFile, error) {
	picture, err := demoPicture(640, 400)
	if err != nil {
		return nil, err
	}
	return []demoFile{
		{"Passport/photo.png", picture},
		{"Passport/number.txt", []byte("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10\n")},
		{"Insurance/policy.pdf", writePDF("Household policy", demoPages())},
		{"Insurance/2025/claim.txt", []byte("Claim 17: one bicycle, stolen in May. Paid in June.\n")},
		{"Mail account/recovery-codes.txt", []byte("4821-9930\n7714-0283\n1190-5562\n6038-4417\n")},
		{"Ideas/read me.txt", []byte(demoText)},
	}, nil
}

const demoText = `This file lies in an encrypted vault. Any program may open it, change it and
save it: what reaches the disk is ciphertext, under a random name.

Closing a file stores it: killing vaultdrive right afterwards loses nothing.
`

func demoPages() [][]string {
	return [][]string{
		{"Household policy", "", "Policy 2041-77, for Anna Maria Eriksson.",
			"It covers what is in the house against fire, water and theft.", "", "Page 1 of 3"},
		{"What is covered", "", "Furniture, books, clothes and bicycles (the lock must be a good one).",
			"Recovery codes, if they were kept in a vault.", "", "Page 2 of 3"},
		{"What to do", "", "Call within three days, keep the receipts, and do not panic.",
			"Receipts are best kept beside this file.", "", "Page 3 of 3"},
	}
}

// demoPicture paints a hill under a sun.
func demoPicture(width, height int) ([]byte, error) {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.Set(x, y, demoPixel(float64(x)/float64(width), float64(y)/float64(height)))
		}
	}
	var b bytes.Buffer
	err := png.Encode(&b, img)
	return b.Bytes(), err
}

func demoPixel(x, y float64) color.RGBA {
	hill := 0.68 + 0.10*math.Sin(x*5) + 0.03*math.Sin(x*17)
	switch {
	case y > hill:
		return color.RGBA{uint8(40 + 60*(1-y)), uint8(110 + 60*(1-y)), 60, 255}
	case math.Hypot((x-0.75)*1.6, y-0.25) < 0.12:
		return color.RGBA{255, 214, 90, 255}
	}
	return color.RGBA{uint8(120 + 100*y), uint8(170 + 50*y), 235, 255}
}
