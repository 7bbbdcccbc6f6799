package backup

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// spool keeps the parts of a checkpoint until its last one has come, which says
// what the others are. They are sealed, and may be more than memory should hold.
type spool struct {
	x     *rebuilder
	file  *os.File // nil without a checkpoint
	parts []section
	end   int64
}

func (s *spool) add(ctx context.Context, f *seal.BackupFile, frame []byte) (err error) {
	if s.file == nil {
		if s.file, err = s.x.r.Spool(); err != nil {
			return err
		}
	}
	if _, err := s.file.WriteAt(frame, s.end); err != nil {
		return err
	}
	s.parts = append(s.parts, section{s.end, int64(len(frame))})
	s.end += int64(len(frame))
	if f.Part != 0 {
		return nil
	}
	id := vaultcore.CheckpointID{Device: f.ID, Seq: f.Seq}
	if err := s.x.r.LoadCheckpoint(ctx, id, s.fetch); err != nil {
		return fmt.Errorf("%w: checkpoint: %w", ErrContent, err)
	}
	return nil
}

// fetch gives a part from 1, and the last as number 0.
func (s *spool) fetch(_ context.Context, part int) ([]byte, error) {
	if part == 0 {
		part = len(s.parts)
	}
	if part < 1 || part > len(s.parts) {
		return nil, fmt.Errorf("%w: part %d of a checkpoint", ErrContent, part)
	}
	at := s.parts[part-1]
	frame := make([]byte, at.size) // of bytes that were read
	_, err := s.file.ReadAt(frame, at.off)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return frame, err
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}
