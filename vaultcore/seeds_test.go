package vaultcore

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// playSeeds plays the first seeds of a random test beside each other, or those
// that the variable names as from:count.
func playSeeds(t *testing.T, variable string, count int, play func(t *testing.T, seed uint64)) {
	first := 1
	if s := os.Getenv(variable); s != "" {
		from, n, _ := strings.Cut(s, ":")
		var err, err2 error
		first, err = strconv.Atoi(from)
		count, err2 = strconv.Atoi(n)
		if err != nil || err2 != nil {
			t.Fatalf("%s=%s: it is from:count", variable, s)
		}
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			play(t, uint64(seed))
		})
	}
}
