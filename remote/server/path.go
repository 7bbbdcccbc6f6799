package server

import (
	"slices"
	"strconv"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// pathMatches compares a path with the pattern of a route.
func pathMatches(pattern, path string) bool {
	p, q := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(p) != len(q) {
		return false
	}
	for i := range p {
		if fits := p[i] == q[i] || strings.HasPrefix(p[i], "{") && q[i] != ""; !fits {
			return false
		}
	}
	return true
}

// id reads an id of the path. Error: not_found, for no such thing can be there.
func (c *call) idOf(name string) (string, error) {
	id := c.r.PathValue(name)
	if !api.ValidID(id) {
		return "", api.Errorf(api.CodeNotFound, "%s is not an id", name)
	}
	return id, nil
}

func (c *call) seqOf(name string) (uint64, error) {
	text := c.r.PathValue(name)
	n, err := strconv.ParseUint(text, 10, 53)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, api.Errorf(api.CodeNotFound, "%s is not a number", name)
	}
	return n, nil
}

// after reads the cursor of a list: what an earlier page gave as its next.
func (c *call) after(valid func(string) bool) (string, error) {
	text := c.r.URL.Query().Get("after")
	if text != "" && !valid(text) {
		return "", api.BadField("after", "not a cursor of this list")
	}
	return text, nil
}

// parentCursor is type/id.
func parentCursor(text string) bool {
	typ, id, _ := strings.Cut(text, "/")
	return slices.Contains(api.ParentTypes, typ) && api.ValidID(id)
}

// query reads a parameter that is a number; def if it is not given.
func (c *call) query(name string, def, most int64) (int64, error) {
	text := c.r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > most {
		return 0, api.BadField(name, "a number up to %d", most)
	}
	return n, nil
}
