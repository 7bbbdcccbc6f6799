package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func id(n int) seal.ID { return seal.ID{byte(n), byte(n >> 8), 1} }

func keyOf(blob seal.ID) seal.Key {
	var b [32]byte
	copy(b[:], blob[:])
	k, err := seal.KeyFromBytes(b[:])
	if err != nil {
		panic(err)
	}
	return k
}

func unwrapOf(blob seal.ID, count *atomic.Int64) func() (seal.Key, error) {
	return func() (seal.Key, error) {
		count.Add(1)
		return keyOf(blob), nil
	}
}

func mustGet(t *testing.T, c *FileKeys, blob seal.ID, unwrap func() (seal.Key, error)) seal.Key {
	t.Helper()
	k, err := c.Get(t.Context(), blob, unwrap)
	if err != nil {
		t.Fatal(err)
	}
	want := keyOf(blob)
	if !k.Equal(&want) {
		t.Fatalf("the key of another blob came for %s", blob.Hex())
	}
	return k
}

func noUnwrap() (seal.Key, error) { panic("unwrapped what the cache holds") }

func TestHitMissEvict(t *testing.T) {
	c := NewFileKeys(2)
	var n atomic.Int64
	for _, i := range []int{1, 2, 1, 3, 1, 2} { // 3 pushes out 2, 2 pushes out 3
		mustGet(t, c, id(i), unwrapOf(id(i), &n))
	}
	want := Counters{Hits: 2, Misses: 4, Evictions: 2, Len: 2, Max: 2}
	if got := c.Counters(); got != want || n.Load() != 4 {
		t.Errorf("counters %+v after %d unwraps, want %+v", got, n.Load(), want)
	}
}

func TestWipedWhenLetGo(t *testing.T) {
	c := NewFileKeys(2)
	held := map[seal.ID]*seal.Key{}
	for i := range 3 {
		k := keyOf(id(i))
		c.Add(id(i), &k)
		held[id(i)], _ = c.keys.Peek(id(i))
	}
	if !held[id(0)].IsZero() || held[id(1)].IsZero() {
		t.Error("eviction did not wipe exactly the oldest key")
	}
	out := mustGet(t, c, id(1), noUnwrap)
	c.Remove(id(1))
	c.Remove(id(1))
	if !held[id(1)].IsZero() || out.IsZero() {
		t.Error("Remove has to wipe the cache's key and leave the caller's")
	}
	c.Purge()
	if !held[id(2)].IsZero() || c.Counters().Len != 0 {
		t.Error("Purge left a key")
	}
}

func TestAddReplaces(t *testing.T) {
	c := NewFileKeys(4)
	other, k := keyOf(id(9)), keyOf(id(1))
	c.Add(id(1), &other)
	c.Add(id(1), &k)
	k.Wipe() // the cache has its own copy
	mustGet(t, c, id(1), noUnwrap)
	if got := c.Counters(); got.Len != 1 || got.Evictions != 0 {
		t.Errorf("counters %+v", got)
	}
}

func TestOneUnwrapForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewFileKeys(1)
		var n atomic.Int64
		gate := make(chan struct{})
		unwrap := func() (seal.Key, error) {
			<-gate
			return unwrapOf(id(1), &n)()
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { mustGet(t, c, id(1), unwrap) })
		}
		synctest.Wait()
		mustGet(t, c, id(2), unwrapOf(id(2), &atomic.Int64{})) // others are not held up
		close(gate)
		wg.Wait()
		if got := c.Counters(); n.Load() != 1 || got.Waits != 19 || got.Misses != 2 {
			t.Errorf("%d unwraps, counters %+v", n.Load(), got)
		}
		if len(c.calls) != 0 {
			t.Error("a finished call was kept")
		}
	})
}

func TestWaitersHonourTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewFileKeys(1)
		gate := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			mustGet(t, c, id(1), func() (seal.Key, error) { <-gate; return keyOf(id(1)), nil })
		})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := c.Get(ctx, id(1), noUnwrap); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled waiter: %v", err)
			}
		})
		wg.Go(func() { mustGet(t, c, id(1), noUnwrap) })
		synctest.Wait()
		running := c.calls[id(1)]
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		if !running.key.IsZero() || running.waiting != 0 {
			t.Error("the last one to leave did not wipe the call's key")
		}
	})
}

func TestFailureIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewFileKeys(4)
		broken := errors.New("broken")
		var n atomic.Int64
		gate := make(chan struct{})
		unwrap := func() (seal.Key, error) {
			<-gate
			if n.Add(1) <= 3 {
				return seal.Key{}, broken
			}
			return keyOf(id(1)), nil
		}
		var failed atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := c.Get(t.Context(), id(1), unwrap); err != nil {
					failed.Add(1)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if failed.Load() != 3 || n.Load() != 4 {
			t.Errorf("%d callers failed in %d unwraps, want 3 in 4", failed.Load(), n.Load())
		}
		mustGet(t, c, id(1), noUnwrap)
	})
}

func TestPanicLeavesNobodyWaiting(t *testing.T) {
	c := NewFileKeys(4)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		c.Get(t.Context(), id(1), func() (seal.Key, error) { panic("bug") })
	}()
	var n atomic.Int64
	mustGet(t, c, id(1), unwrapOf(id(1), &n))
	if n.Load() != 1 {
		t.Error("a key came out of a panic")
	}
}

func TestForgottenWhileUnwrapping(t *testing.T) {
	for name, forget := range map[string]func(*FileKeys){
		"Purge":  (*FileKeys).Purge,
		"Remove": func(c *FileKeys) { c.Remove(id(1)) },
	} {
		c := NewFileKeys(4)
		mustGet(t, c, id(1), func() (seal.Key, error) {
			forget(c)
			return keyOf(id(1)), nil
		})
		if n := c.Counters().Len; n != 0 {
			t.Errorf("%s: the key was kept", name)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	c := NewFileKeys(8)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range 2000 {
				blob := id(r.IntN(20))
				switch r.IntN(20) {
				case 0:
					c.Purge()
				case 1:
					c.Remove(blob)
				case 2:
					k := keyOf(blob)
					c.Add(blob, &k)
				case 3:
					c.Get(t.Context(), blob, func() (seal.Key, error) { return seal.Key{}, fmt.Errorf("no") })
				default:
					if _, err := c.Get(t.Context(), blob, unwrapOf(blob, new(atomic.Int64))); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := c.Counters(); got.Len > 8 || len(c.calls) != 0 {
		t.Errorf("%+v, %d calls left", got, len(c.calls))
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	c := NewFileKeys(4)
	k := keyOf(id(1))
	c.Add(id(1), &k)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { c.Get(ctx, id(1), noUnwrap) }); n != 0 {
		t.Errorf("%v allocations a hit", n)
	}
}

func BenchmarkHit(b *testing.B) {
	c := NewFileKeys(4)
	k := keyOf(id(1))
	c.Add(id(1), &k)
	ctx := b.Context()
	for b.Loop() {
		c.Get(ctx, id(1), noUnwrap)
	}
}
