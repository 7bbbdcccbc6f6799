package main

import (
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressDelay is how long work may take before a bar appears.
const progressDelay = time.Second

// progress draws a bar on a terminal for work of more than a second. In a pipe
// it draws nothing.
type progress struct {
	ui    *ui
	what  string
	bytes bool
	start time.Time

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	drawn bool
	done  int64
}

// progress starts to count; bytes says how amounts are shown.
func (u *ui) progress(what string, bytes bool) *progress {
	return &progress{ui: u, what: what, bytes: bytes, start: time.Now()}
}

// set tells how much is done; total below 1 means unknown.
func (p *progress) set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = done
	if !p.ui.errTerm {
		return
	}
	if p.bar == nil {
		p.bar = p.newBar(total)
		p.bar.StartWithoutRender() // its rate is of the time since then
	}
	if time.Since(p.start) < progressDelay {
		return
	}
	p.drawn = true
	if total > 0 && p.bar.GetMax64() != total {
		p.bar.ChangeMax64(total)
	}
	// A bar that cannot be drawn is no reason to stop the work.
	_ = p.bar.Set64(done)
}

// add is set by difference, with the total unknown.
func (p *progress) add(n int64) {
	p.mu.Lock()
	done := p.done + n
	p.mu.Unlock()
	p.set(done, -1)
}

// Write counts bytes, so that a progress can stand at the end of a tee.
func (p *progress) Write(b []byte) (int, error) {
	p.add(int64(len(b)))
	return len(b), nil
}

// finish wipes the bar away.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		_ = p.bar.Finish()
	}
	p.bar, p.drawn = nil, false
}

func (p *progress) newBar(total int64) *progressbar.ProgressBar {
	if total < 1 {
		total = -1
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(p.ui.err),
		progressbar.OptionSetDescription(p.what),
		progressbar.OptionShowBytes(p.bytes),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
	)
}
