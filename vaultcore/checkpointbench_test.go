package vaultcore

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// flood gives a device n files of another, in 40 folders of 20 assets, without
// their contents.
func (d *device) flood(from *device, n int) {
	d.f.t.Helper()
	var ops []seal.Op
	prev := seal.Head{}
	clock := seal.HLCAt(d.f.now().UnixMilli())
	flush := func() {
		var b *seal.Batch
		err := from.keys.withEpoch(0, func(k *seal.EpochKeys) (err error) {
			clock++
			signer := from.keys.signer()
			defer signer.Wipe()
			b, err = seal.SealBatch(k, signer, prev.Seq+1, prev.Hash, &seal.Body{HLC: clock, Ops: ops})
			return err
		})
		if err != nil {
			d.f.t.Fatal(err)
		}
		prev, ops = b.Head(), nil
		d.f.log[b.Device] = append(d.f.log[b.Device], b.Bytes)
	}
	ops = append(ops, &seal.DeviceName{Name: from.name})
	var assets []seal.ID
	for i := range 20 {
		id := seal.NewID()
		title, epoch, err := from.keys.sealTitle(id, fmt.Sprint("Asset ", i))
		if err != nil {
			d.f.t.Fatal(err)
		}
		assets = append(assets, id)
		ops = append(ops, &seal.AssetPut{ID: id, Rev: 1, Type: seal.ParentItem, Title: title, Epoch: epoch})
	}
	var sent []seal.ID
	for i := range n {
		p := from.somePut(assets[i%20], fmt.Sprintf("folder %d/some photo %d.jpg", i/20%40, i))
		ops, sent = append(ops, p), append(sent, p.Blob.ID)
		if len(sent) == seal.MaxBlobs {
			ops, sent = append(ops, &seal.Sent{Remote: d.f.remote, Blobs: sent}), nil
		}
		if len(ops) >= 200 || i == n-1 {
			flush()
		}
	}
	for log := d.f.log[from.DeviceID()]; len(log) > 0; log = log[min(64, len(log)):] {
		if r, err := d.Receive(context.Background(), log[:min(64, len(log))]...); err != nil || len(r.Refused) > 0 {
			d.f.t.Fatal(r.Refused, err)
		}
	}
}

func (d *device) somePut(asset seal.ID, name string) *seal.Put {
	d.f.t.Helper()
	fk, id := seal.NewKey(), seal.NewID()
	defer fk.Wipe()
	wk, epoch, err := d.keys.wrap(&fk)
	if err != nil {
		d.f.t.Fatal(err)
	}
	field := func(f seal.Field, text string) []byte {
		b, err := seal.SealField(seal.V3, &fk, d.keys.vaultID(), id, f, text)
		if err != nil {
			d.f.t.Fatal(err)
		}
		return b
	}
	p, err := seal.NewPut(&seal.Record{
		Vault: d.keys.vaultID(), ID: id, ParentType: seal.ParentItem, Parent: asset, Version: seal.V3, Epoch: epoch, Rev: 1, Size: 4096, Len: 4096 + 28,
		WK: wk, Name: field(seal.FieldName, name), MIME: field(seal.FieldMIME, "image/jpeg"), Blob: seal.NewBlobID(), Hdr: make([]byte, 28), Mtime: 1, Mode: 0o600,
	}, [32]byte{})
	if err != nil {
		d.f.t.Fatal(err)
	}
	return p
}

// loadTask is what the process that loads is told.
type loadTask struct {
	Home, Dir string
	Device    seal.ID
	Seq       uint64
	Parts     int
}

const loadTaskEnv = "VAULTDRIVE_TEST_LOAD"

// TestLoadProcess is the process whose memory BenchmarkCheckpoint measures.
func TestLoadProcess(t *testing.T) {
	text := os.Getenv(loadTaskEnv)
	if text == "" {
		t.Skip("runs only as the child of BenchmarkCheckpoint")
	}
	var task loadTask
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		t.Fatal(err)
	}
	v := openTest(t, task.Home, Options{})
	if err := v.EnableLedger(context.Background(), "cyd"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := v.LoadCheckpoint(context.Background(), CheckpointID{task.Device, task.Seq}, func(_ context.Context, part int) ([]byte, error) {
		return os.ReadFile(filepath.Join(task.Dir, fmt.Sprint(part)))
	})
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Printf("\nloaded %s %s\n", time.Since(start), strings.Join(strings.Fields(line), " "))
		}
	}
}

// BenchmarkCheckpoint writes a checkpoint of 100,000 attachments, and loads it in
// a process of its own.
func BenchmarkCheckpoint(b *testing.B) {
	const files = 100_000
	f := newFleet(b, "ada", "bob")
	ada := f.devices[0]
	start := time.Now()
	ada.flood(f.devices[1], files)
	b.Logf("received in %s", time.Since(start))
	ada.sealAll(SealOptions{Empty: true})
	for b.Loop() {
		start = time.Now()
		c, err := ada.WriteCheckpoint(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/write")
		b.ReportMetric(float64(c.Size)/files, "B/file")
		load(b, f, c)
	}
}

func load(b *testing.B, f *fleet, c Checkpoint) {
	b.Helper()
	ada := f.devices[0]
	task := loadTask{Dir: b.TempDir(), Device: c.Device, Seq: c.Seq, Parts: c.Parts}
	for part := 1; part <= c.Parts+1; part++ {
		frame, err := ada.CheckpointFrame(context.Background(), c.CheckpointID, part)
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(task.Dir, fmt.Sprint(part%(c.Parts+1))), frame, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cyd := f.join(ada, "cyd")
	f.devices = f.devices[:2]
	if err := cyd.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	task.Home = cyd.home
	text, err := json.Marshal(task)
	if err != nil {
		b.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run", "^TestLoadProcess$", "-test.v")
	child.Env = append(os.Environ(), loadTaskEnv+"="+string(text))
	out, err := child.CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if s, ok := strings.CutPrefix(line, "loaded "); ok {
			b.Log(s)
		}
	}
}
