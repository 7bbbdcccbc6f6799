package server

import (
	"strconv"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// matches says whether an If-None-Match names the entity tag (RFC 9110 section
// 13.1.2, the weak comparison).
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}

// parseRange takes one range of bytes. Several, or another unit, are answered
// whole, as RFC 9110 allows. Error: range_invalid.
func parseRange(header string, size int64) (off, n int64, partial bool, err error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return 0, size, false, nil
	}
	invalid := api.Errorf(api.CodeRangeInvalid, "the range is not within %d bytes", size)
	from, to, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok {
		return 0, 0, false, invalid
	}
	if from == "" { // the last bytes
		last, ok := position(to)
		if !ok || last == 0 || size == 0 {
			return 0, 0, false, invalid
		}
		last = min(last, size)
		return size - last, last, true, nil
	}
	off, ok = position(from)
	if !ok || off >= size {
		return 0, 0, false, invalid
	}
	end := size - 1
	if to != "" {
		if end, ok = position(to); !ok || end < off {
			return 0, 0, false, invalid
		}
		end = min(end, size-1)
	}
	return off, end - off + 1, true, nil
}

// position reads digits alone.
func position(text string) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err == nil
}
