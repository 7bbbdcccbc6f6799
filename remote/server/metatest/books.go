package metatest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
)

// Audit gives the audit log, a line for each entry: action, attachment, type and
// id of the parent, size, author, request.
func Audit(t testing.TB, address string) []string {
	t.Helper()
	db := openBooks(t, address)
	defer db.Close()
	return texts(t, db, "SELECT action||' '||attachment||' '||parent_type||' '||parent_id||' '||size||' '||author||' '||request FROM audit_log ORDER BY account, n")
}

// openBooks opens a server's database to read in all accounts.
func openBooks(t testing.TB, address string) *sql.DB {
	t.Helper()
	driver, source := "sqlite3", "file:"+address+"?mode=ro"
	if strings.HasPrefix(address, "postgres") {
		driver, source = "pgx", address
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	if driver == "pgx" { // on the one connection that is asked
		db.SetMaxOpenConns(1)
		if _, err := db.Exec("SELECT set_config('vaultdrive.account','-1',false)"); err != nil {
			t.Fatal(err)
		}
	}
	if n := texts(t, db, "SELECT 'x' FROM accounts"); len(n) == 0 {
		t.Fatal("the books have no account: nothing was looked at")
	}
	return db
}

// Books checks the sums and references of a server's database, SQLite or
// PostgreSQL, and gives the objects that it says are stored.
func Books(t testing.TB, address string) (keys map[string]int64) {
	t.Helper()
	db := openBooks(t, address)
	defer db.Close()
	for what, query := range wrongBooks {
		if wrong := strings.Join(texts(t, db, query), "; "); wrong != "" {
			t.Errorf("%s: %s", what, wrong)
		}
	}
	keys = make(map[string]int64)
	for _, line := range texts(t, db, "SELECT storage_key||' '||stored FROM blobs WHERE state IN ('present','released')") {
		var key string
		var size int64
		if _, err := fmt.Sscan(line, &key, &size); err != nil {
			t.Fatal(err)
		}
		keys[key] = size
	}
	return keys
}

// wrongBooks are questions whose answers are faults.
var wrongBooks = map[string]string{
	"use is not the sum of what is present":        sumOf("used", "SELECT coalesce(sum(stored),0) FROM blobs b WHERE b.account=a.account AND state='present'"),
	"trash is not the sum of what is released":     sumOf("trash", "SELECT coalesce(sum(stored),0) FROM blobs b WHERE b.account=a.account AND state='released'"),
	"reserved is not the sum of uploads":           sumOf("reserved", "SELECT coalesce(sum(reserved),0) FROM upload_intents i WHERE i.account=a.account"),
	"log is not the sum of batches and the like":   sumOf("log", logSum),
	"more is used and reserved than the quota":     "SELECT 'account '||account FROM accounts WHERE used+reserved>quota",
	"the feed is ahead of its head":                "SELECT 'account '||a.account FROM accounts a WHERE head<(SELECT coalesce(max(n),0) FROM feed f WHERE f.account=a.account)",
	"a live row without its blob":                  "SELECT r.id FROM vault_attachments r LEFT JOIN blobs b ON b.account=r.account AND b.blob=r.blob WHERE r.state='live' AND coalesce(b.state,'none')<>'present'",
	"a blob pledged to nobody":                     "SELECT b.blob FROM blobs b WHERE pledge<>'' AND NOT EXISTS (SELECT 1 FROM upload_intents i WHERE i.account=b.account AND i.slot=b.pledge)",
	"a released blob that is never purged":         "SELECT blob FROM blobs WHERE (state='released')<>(purge_at IS NOT NULL)",
	"one object of two blobs":                      "SELECT storage_key FROM blobs WHERE state IN ('present','released') GROUP BY storage_key HAVING count(*)>1",
	"audits is not the count of entries":           sumOf("audits", "SELECT count(*) FROM audit_log l WHERE l.account=a.account"),
	"a gap in the audit log":                       "SELECT 'account '||account FROM audit_log GROUP BY account HAVING max(n)<>count(*)",
	"an upload without its entry in the audit log": "SELECT r.id FROM vault_attachments r WHERE r.version=1 AND r.author='client' AND NOT EXISTS (SELECT 1 FROM audit_log l WHERE l.account=r.account AND l.attachment=r.id AND l.action='upload')",
}

const logSum = `SELECT (SELECT coalesce(sum(len),0) FROM batches x WHERE x.account=a.account)+(SELECT coalesce(sum(len),0) FROM checkpoints x WHERE x.account=a.account)
	+(SELECT coalesce(sum(length(body)),0) FROM headers x WHERE x.account=a.account)
	+(SELECT coalesce(sum(1024+octet_length(name)+octet_length(mime)),0) FROM vault_attachments x WHERE x.account=a.account)
	+(SELECT coalesce(sum(1024+octet_length(title)),0) FROM (SELECT account,title FROM passwords UNION ALL SELECT account,title FROM notes
		UNION ALL SELECT account,title FROM vault_items) x WHERE x.account=a.account)`

func sumOf(column, sum string) string {
	return fmt.Sprintf("SELECT 'account '||account||' has '||%[1]s||', not '||(%[2]s) FROM accounts a WHERE %[1]s<>(%[2]s)", column, sum)
}

func texts(t testing.TB, db *sql.DB, query string) (out []string) {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
