package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// figure is all that was measured of one metric.
type figure struct {
	metric, unit string
	lower        bool // less is better
	values       map[string][]float64
}

// report collects figures in the order in which they first came.
type report struct {
	figures []*figure
	notes   []string
}

func (r *report) note(text string) {
	if !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

func (r *report) add(s *step, metric, unit string, value float64, lower bool) {
	i := slices.IndexFunc(r.figures, func(f *figure) bool { return f.metric == metric })
	if i < 0 {
		i = len(r.figures)
		r.figures = append(r.figures, &figure{metric, unit, lower, map[string][]float64{}})
	}
	f := r.figures[i]
	f.values[s.player.name] = append(f.values[s.player.name], value)
}

func (f *figure) median(name string) (float64, bool) {
	v := slices.Clone(f.values[name])
	if len(v) == 0 {
		return 0, false
	}
	slices.Sort(v)
	return v[len(v)/2], true
}

// ratio is how many times better a is than b.
func (f *figure) ratio(a, b string) (float64, bool) {
	x, okX := f.median(a)
	y, okY := f.median(b)
	if !okX || !okY || x == 0 || y == 0 {
		return 0, false
	}
	if f.lower {
		return y / x, true
	}
	return x / y, true
}

func (r *report) print(w io.Writer, players []*contestant) {
	for _, p := range players {
		fmt.Fprintf(w, "%s: %s\n", p.name, p.version)
	}
	fmt.Fprintf(w, "%d processors, %s\n\n", runtime.NumCPU(), kernel())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"workload", "unit"}
	for _, p := range players {
		head = append(head, p.name)
	}
	for _, p := range players {
		if p.name != "vaultdrive" {
			head = append(head, "times "+p.name)
		}
	}
	fmt.Fprintln(t, strings.Join(head, "\t")+"\t")
	for _, f := range r.figures {
		fmt.Fprintln(t, strings.Join(f.row(players), "\t")+"\t")
	}
	memory := []string{"max_rss", "MiB"}
	for _, p := range players {
		memory = append(memory, fmt.Sprintf("%.0f", float64(p.peak)/1024))
	}
	fmt.Fprintln(t, strings.Join(memory, "\t")+"\t")
	t.Flush()
	fmt.Fprintln(w, "\nMedians. \"times X\" says how many times better vaultdrive is than X, whether more or less is better.")
	for _, note := range r.notes {
		fmt.Fprintln(w, "Note:", note)
	}
}

func (f *figure) row(players []*contestant) []string {
	row := []string{f.metric, f.unit}
	for _, p := range players {
		cell := "-"
		if m, ok := f.median(p.name); ok {
			cell = fmt.Sprintf("%.4g", m)
		}
		row = append(row, cell)
	}
	for _, p := range players {
		if p.name == "vaultdrive" {
			continue
		}
		cell := "-"
		if x, ok := f.ratio("vaultdrive", p.name); ok {
			cell = fmt.Sprintf("%.2f", x)
		}
		row = append(row, cell)
	}
	return row
}

func kernel() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(text)) + ", " + runtime.Version()
}

// line is one figure in the JSON file.
type line struct {
	Metric      string    `json:"metric"`
	Unit        string    `json:"unit"`
	LowerBetter bool      `json:"lower_is_better"`
	Contestant  string    `json:"contestant"`
	Version     string    `json:"version"`
	Median      float64   `json:"median"`
	Values      []float64 `json:"values"`
}

func (r *report) writeJSON(path string, players []*contestant) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	out := json.NewEncoder(f)
	for _, fig := range r.figures {
		for _, p := range players {
			if m, ok := fig.median(p.name); ok {
				err = out.Encode(line{fig.metric, fig.unit, fig.lower, p.name, p.version, m, fig.values[p.name]})
			}
			if err != nil {
				f.Close()
				return err
			}
		}
	}
	return f.Close()
}
