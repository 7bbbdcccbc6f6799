// Package walvfs is how SQLite meets the disk where one process owns a
// database: no lock and no shared memory file between processes, and the log
// gets each transaction in one write. It refuses to know what the database
// holds.
//
// Below it is SQLite's "unix-excl": the first connection takes the database
// for the process, the index of the log lives in the heap and is made anew
// from the log at the first open, as after a crash. A commit of five pages
// costs one system call instead of ten writes and ten locks.
package walvfs

// #include "walvfs.h"
import "C"

import (
	"fmt"
	"sync"

	_ "github.com/mattn/go-sqlite3" // whose SQLite it is registered with
)

var register = sync.OnceValue(func() C.int { return C.walvfsRegister() })

// Name registers the VFS with SQLite once and gives the name to open a
// database with. All connections of a process to one database must use it, or
// none: another's do not see the index of its log.
func Name() (string, error) {
	if rc := register(); rc != 0 {
		return "", fmt.Errorf("register SQLite's VFS: code %d", int(rc))
	}
	return C.WALVFS_NAME, nil
}
