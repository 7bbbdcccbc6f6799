-- The local index of a vault: user_version 1.
-- Wire columns hold IV ‖ ciphertext as a remote sees it; sealed columns are
-- bound to every other column of their row except those marked "local".
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value BLOB
) WITHOUT ROWID;

CREATE TABLE headers (
  seq     INTEGER PRIMARY KEY,
  payload BLOB NOT NULL,
  sig     BLOB NOT NULL
);

-- n counts up, so that a commit touches the last page; ids are found in
-- memory and need no index.
CREATE TABLE assets (
  n         INTEGER PRIMARY KEY, -- local
  id        BLOB NOT NULL,
  type      INTEGER NOT NULL,
  epoch     INTEGER NOT NULL,
  rev       INTEGER NOT NULL,
  digest    BLOB,
  dirty     INTEGER NOT NULL,    -- local
  deleted   INTEGER NOT NULL,
  commit_no INTEGER NOT NULL,    -- local
  title     BLOB NOT NULL,       -- wire
  sealed    BLOB NOT NULL
);

CREATE TABLE asset_attachments (
  n                      INTEGER PRIMARY KEY, -- local
  id                     BLOB NOT NULL,
  asset                  BLOB NOT NULL,
  encryption_version     INTEGER NOT NULL,
  epoch                  INTEGER NOT NULL,
  size_bytes             INTEGER NOT NULL,
  file_name_encrypted    BLOB NOT NULL,       -- wire
  content_type_encrypted BLOB NOT NULL,       -- wire
  wrapped_file_key       BLOB NOT NULL,       -- wire
  blob                   BLOB NOT NULL,
  blob_len               INTEGER NOT NULL,
  iv                     BLOB,
  hdr                    BLOB NOT NULL,
  sha256                 BLOB,                -- local
  rev                    INTEGER NOT NULL,
  digest                 BLOB,
  base                   BLOB,                -- local
  dirty                  INTEGER NOT NULL,    -- local
  deleted                INTEGER NOT NULL,
  commit_no              INTEGER NOT NULL,    -- local
  place                  INTEGER NOT NULL,    -- local
  sealed                 BLOB NOT NULL,
  fresh                  BLOB                 -- local; last, so that the rest of a row is one page
);

-- The last row behind a barrier of every attachment changed since.
CREATE TABLE undo (
  u                      INTEGER PRIMARY KEY,
  n                      INTEGER NOT NULL,
  id                     BLOB NOT NULL,
  asset                  BLOB NOT NULL,
  encryption_version     INTEGER NOT NULL,
  epoch                  INTEGER NOT NULL,
  size_bytes             INTEGER NOT NULL,
  file_name_encrypted    BLOB NOT NULL,
  content_type_encrypted BLOB NOT NULL,
  wrapped_file_key       BLOB NOT NULL,
  blob                   BLOB NOT NULL,
  blob_len               INTEGER NOT NULL,
  iv                     BLOB,
  hdr                    BLOB NOT NULL,
  sha256                 BLOB,
  rev                    INTEGER NOT NULL,
  digest                 BLOB,
  base                   BLOB,
  dirty                  INTEGER NOT NULL,
  deleted                INTEGER NOT NULL,
  commit_no              INTEGER NOT NULL,
  place                  INTEGER NOT NULL,
  sealed                 BLOB NOT NULL,
  fresh                  BLOB
);

-- Blobs no row names any more; unlinked behind the barrier.
CREATE TABLE doomed (
  d         INTEGER PRIMARY KEY,
  blob      BLOB NOT NULL,
  commit_no INTEGER NOT NULL
);

CREATE TABLE drafts (
  id        BLOB PRIMARY KEY,
  file      TEXT NOT NULL,
  commit_no INTEGER NOT NULL, -- local; 0, or the commit that made it superfluous
  sealed    BLOB NOT NULL
);

CREATE TABLE events (
  n      INTEGER PRIMARY KEY,
  time   INTEGER NOT NULL,
  kind   TEXT NOT NULL,
  sealed BLOB NOT NULL
);
