/* A VFS over SQLite's "unix-excl" that writes the frames of a transaction to
** the log in one call.
**
** SQLite appends each page of a transaction as two writes, a frame header of
** 24 bytes and the page. Frames that continue the log are gathered here until
** the one that says "commit" is whole; then all are written, and the write
** that brought its last byte returns what the disk said. SQLite makes frames
** visible to other connections after that write, so nobody looks for what is
** still here but the connection that wrote it, and every other call on its
** file writes what was gathered first. What a kill finds gathered belongs to
** no finished transaction. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sqlite.h"
#include "walvfs.h"

/* SQLite's file format, section 4.2. */
#define FRAME_HEADER 24

#define PAGE_MAX (64 << 10)

/* Bytes; larger transactions take several writes. The VFS below writes no more
** at once (seekAndWriteFd in SQLite's os_unix.c). */
#define GATHER 0x1ffff

/* While the log grows fast it is made longer ahead, by zeros in large pieces:
** a small write over pages that are there costs a third of one that must get
** them (3 us for 8 KiB, not 9). SQLite takes zeros for the end of the log. */
#define PIECE (64 << 10)
#define AHEAD_MAX (512 << 10)

typedef struct walFile {
  sqlite3_file base;
  unsigned char *buf;   /* frames not yet written; NULL until the first */
  int n;                /* bytes in buf */
  int commit;           /* the newest frame in buf ends a transaction */
  sqlite3_int64 start;  /* where buf belongs */
  sqlite3_int64 top;    /* end of the newest frame, written or gathered; 0: unknown */
  sqlite3_int64 size;   /* of the file at least, or of what it was before a truncation; 0: unknown */
  sqlite3_int64 grown;  /* bytes by which it grew in the second from since on */
  time_t since;
  sqlite3_int64 pageAt; /* behind the frame header just written; 0: where the log's own header is */
} walFile;

/* The real file follows ours in the space SQLite gave for both. */
static sqlite3_file *real(sqlite3_file *f) { return (sqlite3_file *)((walFile *)f + 1); }

/* grow makes the file longer before frames are written up to end: by as much
** again as it grew within the second, so that a lone commit adds nothing. A
** failure is the next write's to tell. */
static void grow(walFile *w, sqlite3_int64 end) {
  static const unsigned char zeros[PIECE];
  sqlite3_file *r = real(&w->base);
  if (w->size == 0 && r->pMethods->xFileSize(r, &w->size) != SQLITE_OK) w->size = 0;
  if (end <= w->size) return;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  if (now.tv_sec != w->since) w->grown = 0;
  w->since = now.tv_sec;
  w->grown += end - w->size;
  sqlite3_int64 ahead = w->grown < AHEAD_MAX ? w->grown : AHEAD_MAX;
  for (; ahead >= PIECE && r->pMethods->xWrite(r, zeros, PIECE, w->size) == SQLITE_OK; ahead -= PIECE) {
    w->size += PIECE;
    w->grown += PIECE;
  }
  if (w->size < end) w->size = end;
}

static int flush(walFile *w) {
  sqlite3_file *r = real(&w->base);
  int n = w->n;
  if (n == 0) return SQLITE_OK;
  w->n = w->commit = 0;
  grow(w, w->start + n);
  int rc = r->pMethods->xWrite(r, w->buf, n, w->start);
  if (rc != SQLITE_OK) w->top = 0; /* SQLite writes these frames again, or others */
  return rc;
}

/* writeThrough writes without gathering, and learns where the log ends: behind
** its own header, which begins it anew, and behind a frame's header and page.
** A header or a page alone is one that SQLite writes anew further down. */
static int writeThrough(walFile *w, const void *p, int n, sqlite3_int64 off) {
  sqlite3_file *r = real(&w->base);
  int rc = r->pMethods->xWrite(r, p, n, off);
  if (n != FRAME_HEADER && off == w->pageAt) w->top = off + n;
  if (off == 0) w->size = 0; /* another connection may have cut the log */
  w->pageAt = n == FRAME_HEADER ? off + n : 0;
  if (rc != SQLITE_OK) w->top = w->pageAt = 0;
  return rc;
}

/* continues says whether a write belongs behind the newest frame: the header
** of another one, or the page of the header in buf. Headers that SQLite writes
** anew lie below top. */
static int continues(const walFile *w, int n, sqlite3_int64 off) {
  if (w->top == 0 || off != w->top || n > PAGE_MAX) return 0;
  return n == FRAME_HEADER || w->n > 0;
}

static int walWrite(sqlite3_file *f, const void *p, int n, sqlite3_int64 off) {
  walFile *w = (walFile *)f;
  int rc = SQLITE_OK;
  if (!continues(w, n, off) || (n == FRAME_HEADER && w->n > GATHER - FRAME_HEADER - PAGE_MAX)) rc = flush(w);
  if (rc != SQLITE_OK) return rc;
  if (w->buf == NULL) w->buf = malloc(GATHER);
  if (!continues(w, n, off) || w->buf == NULL) return writeThrough(w, p, n, off);
  if (w->n == 0) w->start = off;
  memcpy(w->buf + w->n, p, n);
  w->n += n;
  w->top = off + n;
  if (n == FRAME_HEADER) {
    /* Bytes 4 to 7: the pages of the database after a commit, else 0. */
    const unsigned char *h = p;
    w->commit = (h[4] | h[5] | h[6] | h[7]) != 0;
    return SQLITE_OK;
  }
  return w->commit ? flush(w) : SQLITE_OK;
}

static int walClose(sqlite3_file *f) {
  walFile *w = (walFile *)f;
  int rc = flush(w);
  free(w->buf);
  w->buf = NULL;
  int closed = real(f)->pMethods->xClose(real(f));
  return rc != SQLITE_OK ? rc : closed;
}

static int walRead(sqlite3_file *f, void *p, int n, sqlite3_int64 off) {
  int rc = flush((walFile *)f);
  return rc != SQLITE_OK ? rc : real(f)->pMethods->xRead(real(f), p, n, off);
}

static int walTruncate(sqlite3_file *f, sqlite3_int64 size) {
  walFile *w = (walFile *)f;
  int rc = flush(w);
  w->top = w->pageAt = w->size = 0;
  return rc != SQLITE_OK ? rc : real(f)->pMethods->xTruncate(real(f), size);
}

static int walSync(sqlite3_file *f, int flags) {
  int rc = flush((walFile *)f);
  return rc != SQLITE_OK ? rc : real(f)->pMethods->xSync(real(f), flags);
}

static int walFileSize(sqlite3_file *f, sqlite3_int64 *size) {
  int rc = flush((walFile *)f);
  return rc != SQLITE_OK ? rc : real(f)->pMethods->xFileSize(real(f), size);
}

static int walLock(sqlite3_file *f, int lock) { return real(f)->pMethods->xLock(real(f), lock); }
static int walUnlock(sqlite3_file *f, int lock) { return real(f)->pMethods->xUnlock(real(f), lock); }
static int walCheckReservedLock(sqlite3_file *f, int *out) { return real(f)->pMethods->xCheckReservedLock(real(f), out); }
static int walFileControl(sqlite3_file *f, int op, void *arg) { return real(f)->pMethods->xFileControl(real(f), op, arg); }
static int walSectorSize(sqlite3_file *f) { return real(f)->pMethods->xSectorSize(real(f)); }
static int walDeviceCharacteristics(sqlite3_file *f) { return real(f)->pMethods->xDeviceCharacteristics(real(f)); }

static const sqlite3_io_methods walMethods = {
    1, walClose, walRead, walWrite, walTruncate, walSync, walFileSize, walLock, walUnlock, walCheckReservedLock, walFileControl, walSectorSize, walDeviceCharacteristics,
};

static sqlite3_vfs *below; /* set by the only call of walvfsRegister */
static sqlite3_vfs walvfs;

/* xOpen puts ours before a log and leaves every other file as it is. */
static int xOpen(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *outFlags) {
  (void)v;
  if ((flags & SQLITE_OPEN_WAL) == 0) return below->xOpen(below, name, f, flags, outFlags);
  memset(f, 0, sizeof(walFile));
  int rc = below->xOpen(below, name, real(f), flags, outFlags);
  if (rc == SQLITE_OK) f->pMethods = &walMethods;
  return rc;
}

int walvfsRegister(void) {
  if (sqlite3_vfs_find == NULL || sqlite3_vfs_register == NULL) return SQLITE_ERROR;
  below = sqlite3_vfs_find("unix-excl");
  if (below == NULL) return SQLITE_ERROR;
  walvfs = *below;
  walvfs.pNext = NULL;
  walvfs.zName = WALVFS_NAME;
  walvfs.szOsFile = (int)sizeof(walFile) + below->szOsFile;
  walvfs.xOpen = xOpen;
  return sqlite3_vfs_register(&walvfs, 0);
}
