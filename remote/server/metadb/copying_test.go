package metadb

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryTableMoves: a table or a column that is added to the schema and not to
// the lists of what moves would be lost.
func TestEveryTableMoves(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "meta.db"))
	stays := []string{"upload_intents", "goose_db_version", "sqlite_sequence"}
	moves := map[string]table{purgeTable.name: purgeTable}
	for _, list := range [][]table{accountTables, commonTables} {
		for _, m := range list {
			moves[m.name] = m
		}
	}
	var name, column string
	columns := map[string][]string{}
	err := w.view(ctx, everyone, func(q *querier) error {
		return q.each("SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type='table'", nil, func() error {
			columns[name] = append(columns[name], column)
			return nil
		}, &name, &column)
	})
	if err != nil || len(columns) < 20 {
		t.Fatalf("%d tables, %v", len(columns), err)
	}
	for name, have := range columns {
		m, ok := moves[name]
		if !ok {
			if !slices.Contains(stays, name) {
				t.Errorf("table %s neither moves nor stays", name)
			}
			continue
		}
		got := m.names()
		slices.Sort(got)
		slices.Sort(have)
		if strings.Join(got, ",") != strings.Join(have, ",") {
			t.Errorf("table %s has the columns %v; what moves has %v", name, have, got)
		}
	}
}
