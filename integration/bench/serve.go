package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// serving measures a server of its own, on SQLite and on PostgreSQL, both on
// this machine's disk and durable, with every client in this process. The
// clients' work is done by the same processors, so a figure is a lower bound.
func serving(w io.Writer, work string, o options) error {
	b := &serveBench{work: work, program: o.program}
	defer b.stop()
	for name := range strings.SplitSeq(o.workloads, ",") {
		if o.workloads != "" && !slices.ContainsFunc(serveParts, func(p servePart) bool { return p.name == name }) {
			return fmt.Errorf("there is no workload %q for a server", name)
		}
	}
	for _, part := range serveParts {
		if o.workloads != "" && !slices.Contains(strings.Split(o.workloads, ","), part.name) {
			continue
		}
		if err := part.run(b); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s done\n", part.name)
	}
	b.print(w)
	if o.json == "" {
		return nil
	}
	return b.writeJSON(o.json)
}

type servePart struct {
	name string
	run  func(*serveBench) error
}

var serveParts = []servePart{
	{"uploads", (*serveBench).uploads},
	{"bodies", (*serveBench).bodies},
	{"polls", (*serveBench).polls},
	{"downloads", (*serveBench).downloads},
	{"saves", (*serveBench).saves},
}

// serveBench is what the measurements of a server share.
type serveBench struct {
	work, program string
	count         int
	cluster       *cluster
	running       []*process
	figures       []serveFigure
}

// serveFigure is one line of the table. Its name in JSON are those of the other
// measurements.
type serveFigure struct {
	line
	target string
}

func (b *serveBench) figure(metric, unit, contestant, target string, values ...float64) {
	half, _ := middle(values)
	more := unit == "" || strings.HasSuffix(unit, "/s") // is better: of a rate, and of a ratio
	b.figures = append(b.figures, serveFigure{line{metric, unit, !more, contestant, half, values, nil}, target})
}

func (b *serveBench) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s\n\n| | | | wanted |\n|---|---|---:|---:|\n", firstLine(b.program, "--version"), machine())
	for _, f := range b.figures {
		fmt.Fprintf(w, "| %s | %s | %s %s | %s |\n", f.Metric, f.Contestant, round(f.Median), f.Unit, f.target)
	}
}

func round(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func (b *serveBench) writeJSON(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	out := json.NewEncoder(f)
	err = out.Encode(header{Date: time.Now().Round(time.Second), Machine: machine(), Versions: map[string]string{"vaultdrive": firstLine(b.program, "--version")}})
	for _, fig := range b.figures {
		err = errors.Join(err, out.Encode(fig.line))
	}
	return errors.Join(err, f.Close())
}

// dir makes a directory of its own for a process.
func (b *serveBench) dir(name string) (string, error) {
	b.count++
	dir := filepath.Join(b.work, fmt.Sprintf("%s%d", name, b.count))
	return dir, os.MkdirAll(dir, 0o700)
}

// onEach runs a part on each database that a server can use here.
func (b *serveBench) onEach(run func(p *process, database string) error) error {
	if b.cluster == nil {
		if err := b.startCluster(); err != nil {
			return err
		}
	}
	for _, database := range []string{"sqlite", "postgres"} {
		p, err := b.serve(database)
		if err != nil {
			return err
		}
		if err := run(p, database); err != nil {
			return fmt.Errorf("%s: %w", database, err)
		}
		p.stop(syscall.SIGINT)
	}
	return nil
}

// alone serves one account on SQLite, and makes the body of an upload of 25 MiB
// into it.
func (b *serveBench) alone(client *http.Client) (p *process, m *member, body []byte, err error) {
	if p, err = b.serve("sqlite"); err != nil {
		return nil, nil, nil, err
	}
	if m, err = register(p.url, client); err != nil {
		return nil, nil, nil, err
	}
	body, err = m.upload(api.MaxFile)
	return p, m, body, err
}
