package integration

import (
	"slices"
	"strings"
	"testing"
)

// TestQuotaIsFreed: what is replaced or deleted leaves the server's quota once every
// device has seen that, not before, and what is taken back from the trash counts
// again and reads everywhere.
func TestQuotaIsFreed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	bob := newDevice(t, "bob", s.url, nil, ada)
	ada.enroll() // Argon2id for each command takes its time
	bob.enroll()
	big, small := strings.Repeat("first ", 20_000), strings.Repeat("second", 10_000)
	const sealed = 28 // bytes that a small file is longer there
	first, second := int64(len(big)+sealed), int64(len(small)+sealed)
	ada.ok("asset add", "Letters")
	ada.ok("put", ada.file("big", big), "Letters/a")
	syncAll(ada, bob)
	c := newAPIClient(t, ada, s.url)
	counts := func(when string, want ...int64) {
		t.Helper()
		if now := c.usage(); !slices.Contains(want, now) {
			t.Errorf("%s the server counts %d bytes, not %d", when, now, want)
		}
	}
	counts("with the first content", first)
	ada.ok("put", "--force", ada.file("small", small), "Letters/a")
	ada.ok("sync now")
	counts("while bob does not know", first+second)
	bob.ok("sync now") // he has nothing to say but that he has seen it
	ada.ok("sync now")
	counts("when bob knows", second)
	bob.ok("put", bob.file("word", "w"), "Letters/bobs")
	syncAll(bob, ada)
	const word = 1 + sealed
	counts("with bob's", second+word)

	ada.ok("rm", "Letters/a")
	ada.ok("sync now")
	bob.ok("sync now")
	ada.ok("sync now")
	counts("when it is deleted", word)

	ada.ok("trash restore", "Letters/a")
	syncAll(ada, bob)
	counts("when it is back", second+word)
	if got := bob.ok("get", "Letters/a", "-"); got != small {
		t.Errorf("bob reads %d bytes of what was taken back", len(got))
	}
	calm(t, ada, bob)
}
