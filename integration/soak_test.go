package integration

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

var (
	soakTime = flag.Duration("soak", 0, "how long TestSoak works; 0: three rounds")
	soakKeep = flag.String("soak-keep", "", "a directory for the vaults of a TestSoak that fails")
)

// soaker is one person at one device.
type soaker struct {
	t     *testing.T
	name  string
	bed   *bed
	wire  *wire
	mount *mount
	rnd   *rand.Rand
	saves int

	mu     sync.Mutex
	closed map[string]*save  // by id: what close returned for
	tried  map[string]string // id to over: close or rename gave an error, so they may be or not
	ended  map[string]bool   // deleted or replaced by who had read it
	story  []string
}

// tell notes a step, for who has to find out what became of a save.
func (p *soaker) tell(format string, args ...any) {
	p.story = append(p.story, time.Now().Format("15:04:05.000 ")+p.name+" "+fmt.Sprintf(format, args...))
}

// save is one content that a program wrote and closed. Its first line is
// "id <id> over <id of what was read before, or none>".
type save struct {
	path, over string
}

// TestSoak lets three devices work on one vault over bad networks, with kills of
// the daemons and of the server. Afterwards they hold the same tree, byte for
// byte, and every content that was closed is a main file, a conflict copy or in
// the trash, or its author's successor had read it.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	g := s3test.StartGateway(t)
	people := []*soaker{}
	for i, name := range []string{"ada", "bob", "eve"} {
		var first *bed
		if i > 0 {
			first = people[0].bed
		}
		b, w := wired(t, name, g, first)
		p := &soaker{t: t, name: name, bed: b, wire: w, rnd: rand.New(rand.NewPCG(seed, uint64(i))), closed: map[string]*save{}, tried: map[string]string{}, ended: map[string]bool{}}
		b.enroll()
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("events of %s:\n%s", name, b.run("events").stdout)
			}
		})
		p.mount = p.remount()
		people = append(people, p)
	}
	people[0].mount.asset("Shared")
	settleAll(t, people)
	rnd := rand.New(rand.NewPCG(seed, 99))
	end := time.Now().Add(*soakTime)
	for round := 0; round < 3 || time.Now().Before(end); round++ {
		soakRound(t, rnd, g, people)
		if round%5 == 2 {
			settleAll(t, people)
			account(t, people)
		}
	}
	settleAll(t, people)
	account(t, people)
	for _, p := range people {
		p.mount.unmount()
		p.bed.checkClean()
	}
}

// soakRound is a few seconds of work, with trouble in the middle of it.
func soakRound(t *testing.T, rnd *rand.Rand, g *s3test.Gateway, people []*soaker) {
	t.Helper()
	faults := []string{faultLatency, faultSlow, faultCutUp, faultCutDown, faultReset, faultSilent, faultFragments}
	for _, p := range people {
		p.wire.suffer()
		switch rnd.IntN(4) {
		case 0:
			p.wire.down()
		case 1, 2:
			p.wire.suffer(faults[rnd.IntN(len(faults))])
		}
	}
	var work errgroup.Group
	for _, p := range people {
		dies := rnd.IntN(3) == 0
		moment := time.Duration(rnd.IntN(1500)) * time.Millisecond
		work.Go(func() error { return p.work(25) })
		if dies {
			time.Sleep(moment) // the random moment itself; nothing waits for it
			p.mount.cmd.Process.Kill()
		}
	}
	if rnd.IntN(3) == 0 {
		g.Kill()
		g.Start(t)
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, p := range people {
		p.revive()
		p.wire.up()
	}
}

// revive mounts again what was killed.
func (p *soaker) revive() {
	p.t.Helper()
	select {
	case <-p.mount.exited:
	default:
		if _, err := os.Stat(p.mount.path("Shared")); err == nil {
			return
		}
	}
	p.tell("dies")
	p.mount.afterDeath()
	p.mount = p.remount()
}

// remount mounts; what a bad network makes the daemon say is no surprise.
func (p *soaker) remount() *mount {
	p.t.Helper()
	m := p.bed.mountAgain()
	m.expect("kind=offline")
	m.expect("kind=content-missing") // the same, deleted before it was sent
	m.expect("errno=110")            // a content that is not here, asked for meanwhile
	return m
}

// work makes so many changes; a daemon that dies ends it without an error.
func (p *soaker) work(changes int) error {
	if _, err := os.Stat(p.mount.path("Shared")); err != nil {
		return nil // it has not arrived here yet
	}
	for range changes {
		err := p.change()
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist):
		case errors.Is(err, syscall.ETIMEDOUT): // its content is not here, and cannot be had now
		case isDead(err) || p.dead():
			return nil
		default:
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// dead says whether the daemon has ended.
func (p *soaker) dead() bool {
	return poll(patience, func() bool {
		select {
		case <-p.mount.exited:
			return true
		default:
			return false
		}
	})
}

func (p *soaker) change() error {
	dir := p.mount.path("Shared")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ownPrefix) })
	pick := func() string {
		if len(entries) == 0 {
			return filepath.Join(dir, "first")
		}
		return filepath.Join(dir, entries[p.rnd.IntN(len(entries))].Name())
	}
	switch n := p.rnd.IntN(10); {
	case n < 3 || len(entries) < 5:
		return p.create(filepath.Join(dir, fmt.Sprintf("file %d.txt", p.rnd.IntN(40))))
	case n < 7:
		return p.edit(pick())
	case n < 8:
		p.saves++ // no name twice: it would replace a file unread
		from, to := pick(), filepath.Join(dir, fmt.Sprintf("moved %s %d", p.name, p.saves))
		err := os.Rename(from, to)
		p.tell("moves %q to %q: %v", filepath.Base(from), filepath.Base(to), err)
		return err
	case n < 9 && len(entries) > 12:
		return p.remove(pick())
	}
	return p.saveOver(filepath.Join(dir, fmt.Sprintf("%s%s %d", ownPrefix, p.name, p.rnd.IntN(6))))
}

// ownPrefix begins the names of files that only their maker works on.
const ownPrefix = "own "

// text makes a content: small ones, some above the row, now and then one in
// parts of an upload.
func (p *soaker) text(over string) (id string, data []byte) {
	p.saves++
	id = fmt.Sprintf("%s-%d-%d", p.name, os.Getpid(), p.saves)
	head := fmt.Sprintf("id %s over %s\n", id, over)
	size := p.rnd.IntN(6000)
	switch p.rnd.IntN(20) {
	case 0:
		size = 1 << 20
	case 1:
		size = 200_000
	}
	return id, append([]byte(head), noise(p.rnd, size)...)
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// identify gives the id in a content, "" for an empty one.
func identify(data []byte) (id string) {
	line, _, _ := strings.Cut(string(data[:min(len(data), 200)]), "\n")
	fmt.Sscanf(line, "id %s over", &id)
	return id
}

// done notes a save whose last call gave err.
func (p *soaker) done(path, id, over string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell("saves %s over %s as %q: %v", id, over, filepath.Base(path), err)
	if err != nil {
		p.tried[id] = over
		return
	}
	p.closed[id] = &save{filepath.Base(path), over}
	if over != "none" {
		p.ended[over] = true
	}
}

func (p *soaker) create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	id, data := p.text("none")
	return p.finish(f, path, id, "none", data)
}

func (p *soaker) finish(f *os.File, path, id, over string, data []byte) error {
	_, err := f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	err = errors.Join(err, f.Close())
	p.done(path, id, over, err)
	return err
}

// edit writes over what it has read through the same handle.
func (p *soaker) edit(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	old, err := io.ReadAll(f)
	if err != nil {
		f.Close()
		return err
	}
	over := orNone(identify(old))
	id, data := p.text(over)
	return p.finish(f, path, id, over, data)
}

// saveOver saves as editors do: read, write beside, rename over. Whoever renames
// over a file replaces what is there at that moment, read or not, so this is
// done to files that nobody else works on.
func (p *soaker) saveOver(path string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	over := orNone(identify(old))
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".tmp %s %d", p.name, p.saves))
	id, data := p.text(over)
	if err = os.WriteFile(temp, data, 0o644); err == nil {
		err = os.Rename(temp, path)
	}
	p.done(path, id, over, err)
	return err
}

func orNone(id string) string {
	if id == "" {
		return "none"
	}
	return id
}

func (p *soaker) remove(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	p.tell("removes %s at %q: %v", identify(old), filepath.Base(path), err)
	p.mu.Lock()
	p.ended[identify(old)] = true // or perhaps, if the daemon died of it
	p.mu.Unlock()
	return err
}

// tree reads everything below the mount's root: path to what is there.
func (p *soaker) tree() (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(p.mount.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(p.mount.dir, path)
		out[rel] = d.Type().String()
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			out[rel] = fmt.Sprintf("%d bytes %x %s", len(data), sha256.Sum256(data), identify(data))
		}
		return nil
	})
	return out, err
}

// settleAll heals the network and waits until all hold the same.
func settleAll(t *testing.T, people []*soaker) {
	t.Helper()
	for _, p := range people {
		p.wire.suffer()
		p.wire.up()
	}
	var said, path string
	if !poll(patience, func() bool {
		for range 2 {
			for _, p := range people {
				if r := p.bed.run("sync now"); r.code != 0 {
					said = fmt.Sprintf("%s: sync now: %v", p.name, r)
					return false
				}
			}
		}
		said, path = difference(people)
		return said == ""
	}) {
		t.Fatalf("the devices do not come to hold the same: %s\n%s", said, explain(t, people, path))
	}
}

// explain gives what the devices know of a file that is not the same on all:
// by the pages of the kernel, past them, and after a new mount.
func explain(t *testing.T, people []*soaker, path string) string {
	var out strings.Builder
	look := func(p *soaker, when string) {
		fmt.Fprintf(&out, "%s %s: %s", p.name, when, p.bed.run("status", p.mount.path(path)).stdout)
		f, err := os.OpenFile(p.mount.path(path), os.O_RDONLY|syscall.O_DIRECT, 0)
		if err != nil {
			fmt.Fprintln(&out, err)
			return
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		fmt.Fprintf(&out, "past the page cache: %s, %d bytes, %v\n", identify(data), len(data), err)
	}
	keepVaults(t, people)
	for i, p := range people {
		if path != "" {
			look(p, "now")
		}
		fmt.Fprintln(&out, p.bed.run("sync status").stdout)
		if path != "" {
			p.mount.unmount()
			people[i].mount = p.remount()
			look(p, "after a mount")
		}
	}
	fmt.Fprintln(&out, stories(people, []string{"? (" + strings.TrimPrefix(path, "Shared/") + ","}))
	return out.String()
}

// keepVaults copies the vaults to where -soak-keep says.
func keepVaults(t *testing.T, people []*soaker) {
	for _, p := range people {
		if *soakKeep != "" {
			must(t, os.CopyFS(filepath.Join(*soakKeep, p.name), os.DirFS(p.bed.vault)))
		}
	}
}

// difference says what one device shows and another does not, and where.
func difference(people []*soaker) (said, path string) {
	var first map[string]string
	for _, p := range people {
		have, err := p.tree()
		if err != nil {
			return fmt.Sprintf("%s: %v", p.name, err), ""
		}
		if s := p.bed.syncStatus(); s.Queue != 0 || s.State != "idle" {
			return fmt.Sprintf("%s: %+v", p.name, s), ""
		}
		if first == nil {
			first = have
			continue
		}
		for path, what := range first {
			if have[path] != what {
				return fmt.Sprintf("%s: %s has %q, %s %q", path, people[0].name, what, p.name, have[path]), path
			}
		}
		for path, what := range have {
			if _, ok := first[path]; !ok {
				return fmt.Sprintf("%s: only %s has it: %q", path, p.name, what), path
			}
		}
	}
	return "", ""
}

// account looks for every save.
func account(t *testing.T, people []*soaker) {
	t.Helper()
	here := map[string]bool{}
	for _, p := range people {
		for _, dir := range []string{p.mount.path("Shared"), p.mount.path(".vaultdrive", "trash")} {
			entries, err := os.ReadDir(dir)
			must(t, err)
			for _, e := range entries {
				data, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if errors.Is(err, syscall.ETIMEDOUT) && strings.HasSuffix(dir, "trash") {
					continue // deleted before it was sent: its device has it
				}
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v", p.name, err)
				}
				here[identify(data)] = true
			}
		}
	}
	ended, total, lost := map[string]bool{}, 0, []string{}
	for _, p := range people {
		for id := range p.ended {
			ended[id] = true
		}
	}
	for more := true; more; {
		more = false
		for _, p := range people {
			for id, over := range p.tried {
				if (here[id] || ended[id]) && !ended[over] {
					ended[over], more = true, true
				}
			}
		}
	}
	for _, p := range people {
		for id, s := range p.closed {
			total++
			if !here[id] && !ended[id] {
				lost = append(lost, fmt.Sprintf("%s (%s, over %s)", id, s.path, s.over))
			}
		}
	}
	slices.Sort(lost)
	t.Logf("%d saves, %d of them read and then replaced or deleted, %d contents are here", total, len(ended), len(here))
	if len(lost) > 0 {
		keepVaults(t, people)
		t.Fatalf("%d closed saves are nowhere:\n%s\n%s", len(lost), strings.Join(lost, "\n"), stories(people, lost))
	}
	if total < 20 {
		t.Errorf("only %d saves: this tested little", total)
	}
}

// stories are the steps that name a lost save or the file it was.
func stories(people []*soaker, lost []string) string {
	var all []string
	for _, p := range people {
		all = append(all, p.story...)
	}
	slices.Sort(all)
	return strings.Join(slices.DeleteFunc(all, func(line string) bool {
		return !strings.Contains(line, "dies") && !slices.ContainsFunc(lost, func(l string) bool {
			id, rest, _ := strings.Cut(l, " ")
			name, _, _ := strings.Cut(strings.TrimPrefix(rest, "("), ",")
			return strings.Contains(line, id+" ") || strings.Contains(line, strconv.Quote(name))
		})
	}), "\n")
}
