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
	"time"
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

func (f *figure) median(name string) (float64, bool) { return middle(f.values[name]) }

// ratio is how many times better a is than b: the median of the ratios within
// one repetition each, so that drift between repetitions cancels.
func (f *figure) ratio(a, b string) (float64, bool) {
	var all []float64
	for i := range min(len(f.values[a]), len(f.values[b])) {
		x, y := f.values[a][i], f.values[b][i]
		if f.lower {
			x, y = y, x
		}
		if y > 0 {
			all = append(all, x/y)
		}
	}
	return middle(all)
}

func middle(values []float64) (float64, bool) {
	if len(values) == 0 {
		return 0, false
	}
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2, true
}

// print writes a table that is Markdown as well.
func (r *report) print(w io.Writer, players []*contestant) {
	for _, p := range players {
		fmt.Fprintf(w, "- %s: %s\n", p.name, p.version)
	}
	fmt.Fprintf(w, "- %s\n\n", machine())
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	head, rule := []string{"workload"}, []string{"---"}
	for _, p := range players {
		head, rule = append(head, p.name), append(rule, "---:")
	}
	for _, pair := range pairs(players) {
		head, rule = append(head, pair[0]+" to "+pair[1]), append(rule, "---:")
	}
	row := func(cells []string) { fmt.Fprintln(t, "| "+strings.Join(cells, "\t| ")+"\t|") }
	row(head)
	row(rule)
	for _, f := range append(slices.Clone(r.figures), memory(players)) {
		row(f.row(players))
	}
	t.Flush()
	fmt.Fprintln(w, "\nMedians. \"a to b\" says how many times better a is than b, whether more or less is better.")
	for _, note := range r.notes {
		fmt.Fprintln(w, "Note:", note)
	}
}

// memory is the largest resident memory of each that has a process.
func memory(players []*contestant) *figure {
	f := &figure{"max_rss", "MiB", true, map[string][]float64{}}
	for _, p := range players {
		if p.peak > 0 {
			f.values[p.name] = []float64{float64(p.peak) / 1024}
		}
	}
	return f
}

// pairs lists each vaultdrive with each of the others.
func pairs(players []*contestant) [][2]string {
	var out [][2]string
	for _, ours := range players {
		for _, other := range players {
			if ours.ours && !other.ours {
				out = append(out, [2]string{ours.name, other.name})
			}
		}
	}
	return out
}

// ratios is the row's ratios of one vaultdrive, by the other's name.
func (f *figure) ratios(p *contestant, players []*contestant) map[string]float64 {
	out := map[string]float64{}
	for _, pair := range pairs(players) {
		if x, ok := f.ratio(pair[0], pair[1]); ok && pair[0] == p.name {
			out[pair[1]] = x
		}
	}
	return out
}

func (f *figure) row(players []*contestant) []string {
	row := []string{f.metric + ", " + f.unit}
	for _, p := range players {
		m, ok := f.median(p.name)
		row = append(row, cell("%.4g", m, ok))
	}
	for _, pair := range pairs(players) {
		x, ok := f.ratio(pair[0], pair[1])
		row = append(row, cell("%.2f", x, ok))
	}
	return row
}

func cell(format string, value float64, ok bool) string {
	if !ok {
		return "-"
	}
	return fmt.Sprintf(format, value)
}

// machine says where the figures were taken.
func machine() string {
	cpu := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(key) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d processors, %s, %s", runtime.NumCPU(), cpu, kernel())
}

func kernel() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(text)) + ", " + runtime.Version()
}

// header is the first line of the JSON file.
type header struct {
	Date     time.Time         `json:"date"`
	Machine  string            `json:"machine"`
	Versions map[string]string `json:"versions"`
	Notes    []string          `json:"notes,omitempty"`
}

// line is one figure in the JSON file.
type line struct {
	Metric      string    `json:"metric"`
	Unit        string    `json:"unit"`
	LowerBetter bool      `json:"lower_is_better"`
	Contestant  string    `json:"contestant"`
	Median      float64   `json:"median"`
	Values      []float64 `json:"values"`
	// How many times better than each of the others, of a vaultdrive.
	Ratios map[string]float64 `json:"ratios,omitempty"`
}

func (r *report) writeJSON(path string, players []*contestant) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	out := json.NewEncoder(f)
	h := header{Date: time.Now().Round(time.Second), Machine: machine(), Versions: map[string]string{}, Notes: r.notes}
	for _, p := range players {
		h.Versions[p.name] = p.version
	}
	if err := out.Encode(h); err != nil {
		f.Close()
		return err
	}
	for _, fig := range append(slices.Clone(r.figures), memory(players)) {
		for _, p := range players {
			if m, ok := fig.median(p.name); ok {
				err = out.Encode(line{fig.metric, fig.unit, fig.lower, p.name, m, fig.values[p.name], fig.ratios(p, players)})
			}
			if err != nil {
				f.Close()
				return err
			}
		}
	}
	return f.Close()
}
