package seal

import (
	"fmt"
	"strconv"
	"strings"
)

// FileKind says what a member of a backup is; they come in this order.
type FileKind uint8

// The kinds of members behind manifest, signature and MAC.
const (
	FileHeader     FileKind = iota + 1 // headers/‹20 digits›.json
	FileCheckpoint                     // checkpoints/‹20 digits›-‹device›/‹n› and, last, m
	FileBatch                          // log/‹device›/‹20 digits›.vdb
	FileBlob                           // blobs/‹32 hex›.bin
)

// BackupFile is a member of a backup as its manifest names it.
type BackupFile struct {
	Kind FileKind
	ID   ID     // of a blob, or the device of a batch or checkpoint
	Seq  uint64 // of a header or batch; of a checkpoint: that in its name
	Part uint64 // of a checkpoint, from 1; 0 is m, the last one
	Size int64  // bytes
	Hash [32]byte
}

// Name is where the member lies, as in a remote.
func (f *BackupFile) Name() string {
	switch f.Kind {
	case FileHeader:
		return fmt.Sprintf("headers/%020d.json", f.Seq)
	case FileCheckpoint:
		part := "m"
		if f.Part > 0 {
			part = strconv.FormatUint(f.Part, 10)
		}
		return fmt.Sprintf("checkpoints/%020d-%s/%s", f.Seq, f.ID.UUID(), part)
	case FileBatch:
		return fmt.Sprintf("log/%s/%020d.vdb", f.ID.UUID(), f.Seq)
	}
	return "blobs/" + f.ID.Hex() + ".bin"
}

// parseFileName fills in what the name says; only Name's own spelling passes.
func parseFileName(name string, f *BackupFile) error {
	dir, rest, _ := strings.Cut(name, "/")
	var err error
	switch dir {
	case "headers":
		f.Kind = FileHeader
		f.Seq, err = strconv.ParseUint(strings.TrimSuffix(rest, ".json"), 10, 64)
	case "checkpoints":
		f.Kind = FileCheckpoint
		err = parseCheckpointName(rest, f)
	case "log":
		f.Kind = FileBatch
		device, seq, _ := strings.Cut(rest, "/")
		if f.ID, err = ParseUUID(device); err == nil {
			f.Seq, err = strconv.ParseUint(strings.TrimSuffix(seq, ".vdb"), 10, 64)
		}
	case "blobs":
		f.Kind = FileBlob
		f.ID, err = ParseHex(strings.TrimSuffix(rest, ".bin"))
	default:
		err = ErrFormat
	}
	if err != nil || f.Name() != name {
		return fmt.Errorf("%w: member name", ErrFormat)
	}
	return nil
}

func parseCheckpointName(rest string, f *BackupFile) error {
	name, part, _ := strings.Cut(rest, "/")
	seq, device, _ := strings.Cut(name, "-")
	var err error
	if f.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return err
	}
	if f.ID, err = ParseUUID(device); err != nil || part == "m" {
		return err
	}
	f.Part, err = strconv.ParseUint(part, 10, 64)
	return err
}
