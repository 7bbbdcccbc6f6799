package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Start implements blob.Store. Parts must be MinPart or larger, but for the last.
func (s *Store) Start(ctx context.Context, up blob.Upload) (blob.Upload, error) {
	if err := check(ctx, "start upload of", up.Key); err != nil {
		return blob.Upload{}, err
	}
	if up.PartSize < 1 {
		return blob.Upload{}, fmt.Errorf("start upload of %s in parts of %d bytes: %w", up.Key, up.PartSize, blob.ErrSize)
	}
	up.Parts = nil
	if up.ID != "" {
		return s.resume(ctx, up)
	}
	err := s.call(ctx, "start upload of", up.Key, "", func(ctx context.Context) (err error) {
		up.ID, err = s.core.NewMultipartUpload(ctx, s.bucket, s.base+up.Key, minio.PutObjectOptions{})
		return err
	})
	if err != nil {
		return blob.Upload{}, err
	}
	return up, nil
}

func (s *Store) resume(ctx context.Context, up blob.Upload) (blob.Upload, error) {
	if err := checkID(up); err != nil {
		return blob.Upload{}, err
	}
	for marker := 0; ; {
		var page minio.ListObjectPartsResult
		err := s.call(ctx, "resume upload of", up.Key, "", func(ctx context.Context) (err error) {
			page, err = s.core.ListObjectParts(ctx, s.bucket, s.base+up.Key, up.ID, marker, fullPage)
			return err
		})
		if err != nil {
			return blob.Upload{}, err
		}
		for _, p := range page.ObjectParts {
			up.Parts = append(up.Parts, blob.Part{Number: p.PartNumber, Size: p.Size, Tag: strings.Trim(p.ETag, `"`)})
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			break
		}
		marker = page.NextPartNumberMarker
	}
	slices.SortFunc(up.Parts, func(a, b blob.Part) int { return a.Number - b.Number })
	return up, nil
}

// Part implements blob.Store.
func (s *Store) Part(ctx context.Context, up blob.Upload, number int, r io.Reader, size int64) (blob.Part, error) {
	if err := errors.Join(check(ctx, "store part of", up.Key), blob.CheckPart(up, number, size), checkID(up)); err != nil {
		return blob.Part{}, err
	}
	if number > MaxParts || size > MaxPart {
		return blob.Part{}, fmt.Errorf("part %d of %s, %d bytes: %w", number, up.Key, size, blob.ErrTooLarge)
	}
	body, err := newBody(ctx, r, size)
	if err != nil {
		return blob.Part{}, fmt.Errorf("part %d of %s: %w", number, up.Key, err)
	}
	defer body.close()
	var stored minio.ObjectPart
	err = s.call(ctx, fmt.Sprintf("store part %d of", number), up.Key, "", func(ctx context.Context) (err error) {
		stored, err = s.core.PutObjectPart(ctx, s.bucket, s.base+up.Key, up.ID, number, body.reader(), size,
			minio.PutObjectPartOptions{Md5Base64: body.md5, DisableContentSha256: true})
		return err
	})
	if err != nil {
		return blob.Part{}, err
	}
	return blob.Part{Number: number, Size: size, Tag: stored.ETag}, nil
}

// Finish implements blob.Store. Not every server knows the create-only
// condition here, so it is also looked first.
func (s *Store) Finish(ctx context.Context, up blob.Upload, createOnly bool) error {
	if err := errors.Join(check(ctx, "finish upload of", up.Key), blob.CheckParts(up)); err != nil {
		return err
	}
	if len(up.Parts) == 0 {
		return s.abandon(ctx, up)
	}
	if err := checkID(up); err != nil {
		return err
	}
	condition := ""
	if createOnly {
		if err := s.refuseExisting(ctx, "finish upload of", up.Key); err != nil {
			return err
		}
		if !s.noConditions.Load() {
			condition = absent
		}
	}
	err := s.complete(ctx, up, condition)
	if condition != "" && errors.Is(err, errors.ErrUnsupported) {
		return s.complete(ctx, up, "")
	}
	return err
}

func (s *Store) complete(ctx context.Context, up blob.Upload, condition string) error {
	parts := make([]minio.CompletePart, len(up.Parts))
	for i, p := range up.Parts {
		parts[i] = minio.CompletePart{PartNumber: p.Number, ETag: p.Tag}
	}
	return s.call(ctx, "finish upload of", up.Key, condition, func(ctx context.Context) error {
		_, err := s.core.CompleteMultipartUpload(ctx, s.bucket, s.base+up.Key, up.ID, parts, conditional(condition))
		return err
	})
}

func (s *Store) abandon(ctx context.Context, up blob.Upload) error {
	if checkID(up) != nil {
		return nil // there is none of that name
	}
	err := s.call(ctx, "abandon upload of", up.Key, "", func(ctx context.Context) error {
		return s.core.AbortMultipartUpload(ctx, s.bucket, s.base+up.Key, up.ID)
	})
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore) {
		return nil
	}
	return err
}

// checkID keeps an id that came from a file or a remote from becoming a path on
// the server: no server gives such ones.
func checkID(up blob.Upload) error {
	if up.ID == "" || len(up.ID) > 1024 || strings.Contains(up.ID, "..") || strings.ContainsAny(up.ID, "/\\\x00\r\n") {
		return fmt.Errorf("upload of %s: %w", up.Key, blob.ErrNotFound)
	}
	return nil
}
