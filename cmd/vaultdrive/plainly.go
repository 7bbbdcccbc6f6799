package main

import (
	"regexp"
	"slices"
	"strings"
)

// saying is what layers of a transport say of a remote that cannot be reached, and the
// one sentence for that. The layers are in the log.
type saying struct {
	layers *regexp.Regexp
	plain  string
}

var sayings = []saying{
	{regexp.MustCompile(`^.*dial tcp: lookup (\S+?)(?: on \S+)?: no such host\)*$`), "the remote cannot be reached: no host $1 is known"},
	{regexp.MustCompile(`^.*dial tcp: lookup (\S+?)(?: on \S+)?: (.+?)\)*$`), "the remote cannot be reached: the name $1 cannot be looked up ($2)"},
	{regexp.MustCompile(`^.*dial tcp (\S+): (?:connect: )?(.+?)\)*$`), "the remote at $1 cannot be reached: $2"},
	{regexp.MustCompile(`^.*directory (/.*?): blob store unavailable: the blob store is not there.*$`), "the directory $1 of the remote is not there"},
	{regexp.MustCompile(`^.* in bucket (\S+) at (\S+): blob store unavailable: the blob store is not there.*$`), "there is no bucket $1 at $2"},
	{regexp.MustCompile(`^.* in bucket (\S+) at (\S+): blob store unavailable \((.+)\)$`), "the bucket $1 at $2 does not answer: $3"},
	{regexp.MustCompile(`^.* in bucket (\S+) at (\S+): the blob store denies access \((.+)\)$`), "the bucket $1 at $2 denies access ($3)"},
	{regexp.MustCompile(`^.* in bucket (\S+) at (\S+): the clocks of this machine and of the blob store differ \((.+)\)$`), "the clocks of this machine and of the bucket $1 at $2 differ ($3)"},
	{regexp.MustCompile(`^.*blob store unavailable: (?:Get|Head|Post|Put|Delete) "(https?://[^/"]+)[^"]*": (.+)$`), "the server at $1 does not answer: $2"},
}

// plainly says what went wrong in one line: joined errors stand side by side, each once.
func plainly(text string) string {
	var said []string
	for line := range strings.SplitSeq(text, "\n") {
		for _, s := range sayings {
			if s.layers.MatchString(line) {
				line = s.layers.ReplaceAllString(line, s.plain)
				break
			}
		}
		if !slices.Contains(said, line) {
			said = append(said, line)
		}
	}
	return strings.Join(said, "; ")
}
