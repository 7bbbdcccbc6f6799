package metadb

import (
	"database/sql"
	"strconv"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// guarded is a world on PostgreSQL with two accounts that have a row in every
// table, and a bare connection of the same role.
func guarded(t *testing.T) (w *world, a, b Account, bare *sql.DB) {
	t.Helper()
	address := metatest.Postgres(t)
	w = newWorld(t, address)
	a, b = filled(w), filled(w)
	bare, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bare.Close() })
	bare.SetMaxOpenConns(1) // so that a setting which outlives its transaction is seen
	return w, a, b, bare
}

// filled is an account with a row in every table that has accounts.
func filled(w *world) Account {
	w.t.Helper()
	a, parent := w.account(1 << 20)
	w.store(upload(a, parent, 600))
	err := w.update(ctx, func(q *querier) error {
		q.as(a.ID)
		for _, text := range []string{
			"INSERT INTO devices(account,device,pk,revoked) VALUES($1,$2,'',0)",
			"INSERT INTO sessions(token,account,device,expires) VALUES($2,$1,'',1)",
			"INSERT INTO passwords(account,id,title,epoch,state,author) VALUES($1,$2,'',1,'live','')",
			"INSERT INTO notes(account,id,title,epoch,state,author) VALUES($1,$2,'',1,'live','')",
			"INSERT INTO upload_intents(account,slot,attempt,blob,storage_key,reserved,started) VALUES($1,$2,'','','',0,0)",
			"INSERT INTO idempotency(account,slot,print,id,expires) VALUES($1,$2,'','',1)",
			"INSERT INTO batches(account,device,seq,hash,n,len,body) VALUES($1,$2,1,'',1,1,'x')",
			"INSERT INTO checkpoints(account,name,part,sha256,len,body,created) VALUES($1,$2,'m','',1,'x',1)",
			"INSERT INTO pairings(account,pair,side,body,expires) VALUES($1,$2,'q','x',1)",
			"INSERT INTO rate(account,class,times) VALUES($1,$2,'[]')",
			"INSERT INTO purge_queue(storage_key,account,due) VALUES($2,$1,1)",
		} {
			if err := q.must(text, a.ID, randomID()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// tablesOfAccounts are those with a column for the account.
func tablesOfAccounts(t *testing.T, bare *sql.DB) (out []string) {
	t.Helper()
	found, err := bare.Query("SELECT table_name FROM information_schema.columns WHERE table_schema='public' AND column_name='account' ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var name string
		if err := found.Scan(&name); err != nil {
			t.Fatal(err)
		}
		out = append(out, name)
	}
	if len(out) < 17 {
		t.Fatalf("tables with accounts: %v", out)
	}
	return out
}

// TestRowSecurity: a query that names no account finds nothing in any table, one
// that names an account nothing of another.
func TestRowSecurity(t *testing.T) {
	w, a, b, bare := guarded(t)
	if free, err := w.Unguarded(ctx); free || err != nil {
		t.Fatalf("the role of the tests is bound by no policy: %v", err)
	}
	count := func(tx interface {
		QueryRow(string, ...any) *sql.Row
	}, table, where string, args ...any) (n int) {
		t.Helper()
		if err := tx.QueryRow("SELECT count(*) FROM "+table+" WHERE "+where, args...).Scan(&n); err != nil {
			t.Fatalf("%s: %v", table, err)
		}
		return n
	}
	for _, table := range tablesOfAccounts(t, bare) {
		tx, err := bare.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(setAccount, strconv.FormatInt(a.ID, 10)); err != nil {
			t.Fatal(err)
		}
		if own, all := count(tx, table, "account=$1", a.ID), count(tx, table, "true"); own == 0 || all != own {
			t.Errorf("%s: %d rows of the account, %d in all", table, own, all)
		}
		if r, err := tx.Exec("DELETE FROM "+table+" WHERE account=$1", b.ID); err != nil {
			t.Errorf("%s: %v", table, err)
		} else if n, _ := r.RowsAffected(); n != 0 {
			t.Errorf("%s: %d rows of another account deleted", table, n)
		}
		if _, err := tx.Exec("UPDATE "+table+" SET account=$1 WHERE account=$2", b.ID, a.ID); err == nil || table != "audit_log" && !strings.Contains(err.Error(), "row-level security") {
			t.Errorf("%s: a row given to another account: %v", table, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n := count(bare, table, "true"); n != 0 {
			t.Errorf("%s: %d rows for who names no account", table, n)
		}
	}
}

// TestNobodyByDefault: this package's own transactions see nothing before they
// say whose, and a pooled connection forgets whom it served.
func TestNobodyByDefault(t *testing.T) {
	w, a, b, _ := guarded(t)
	count := func(q *querier) (n int64) {
		t.Helper()
		if err := q.one("SELECT count(*) FROM blobs", nil, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	check := func(who string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s sees %d rows, want %d", who, got, want)
		}
	}
	for range 3 {
		err := w.update(ctx, func(q *querier) error {
			check("nobody", count(q), 0)
			if err := q.lock(a.ID); err != nil {
				return err
			}
			check("an account", count(q), 1)
			if err := q.must("SAVEPOINT w"); err != nil {
				return err
			}
			q.as(everyone)
			check("everyone", count(q), 2)
			if err := q.must("ROLLBACK TO w"); err != nil {
				return err
			}
			check("everyone after a savepoint", count(q), 2)
			q.as(b.ID)
			check("the other", count(q), 1)
			q.as(nobody)
			check("nobody again", count(q), 0)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for who, want := range map[int64]int64{nobody: 0, a.ID: 1, everyone: 2} {
		_ = w.view(ctx, who, func(q *querier) error { check("a view", count(q), want); return nil })
	}
}

// TestAuditOnlyGrows: what the audit log says cannot be changed or taken back.
func TestAuditOnlyGrows(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1 << 20)
		w.store(upload(a, parent, 600))
		for _, text := range []string{"UPDATE audit_log SET size=1 WHERE account=$1", "DELETE FROM audit_log WHERE account=$1"} {
			err := w.update(ctx, func(q *querier) error {
				q.as(a.ID)
				return q.must(text, a.ID)
			})
			if err == nil || !strings.Contains(err.Error(), "only ever added to") {
				t.Errorf("%s: %v", text, err)
			}
		}
	})
}

// TestIndexesUnderRowSecurity: the policies keep no query from its index, which
// they would if what it compares with were not leakproof.
func TestIndexesUnderRowSecurity(t *testing.T) {
	w, a, _, _ := guarded(t)
	for _, query := range []string{
		"SELECT blob,stored,state FROM blobs WHERE account=$1 AND blob>$2 AND state<>'purged' ORDER BY blob LIMIT 500",
		"SELECT entry FROM feed WHERE account=$1 AND subject=$2",
		"SELECT id FROM notes WHERE account=$1 AND state='live' AND id>$2 ORDER BY id LIMIT 500",
		"SELECT hash,n FROM batches WHERE account=$1 AND device=$2 AND seq=3",
	} {
		err := w.update(ctx, func(q *querier) error {
			q.as(a.ID)
			if err := q.must("SET LOCAL enable_seqscan=off"); err != nil {
				return err
			}
			var line, plan string
			if err := q.each("EXPLAIN "+query, []any{a.ID, "x"}, func() error { plan += line + "\n"; return nil }, &line); err != nil {
				return err
			}
			_, cond, found := strings.Cut(plan, "Index Cond:")
			cond, _, _ = strings.Cut(cond, "\n")
			if !found || strings.Count(cond, " AND ") < 1 {
				t.Errorf("%s:\n%s", query, plan)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
