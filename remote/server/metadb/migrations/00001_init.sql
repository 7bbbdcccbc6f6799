-- +goose Up

-- Text here is lower case: ids are UUIDs, blobs 32 and hashes 64 hex digits.
-- Times are ms since 1970. Every key starts with the account.
CREATE TABLE accounts (
  account  BIGINT NOT NULL PRIMARY KEY,
  vault    TEXT   NOT NULL UNIQUE,
  did      TEXT   NOT NULL UNIQUE,
  remote   TEXT   NOT NULL,
  boot     TEXT   NOT NULL,            -- SHA-256 of the boot token
  plan     TEXT   NOT NULL,
  quota    BIGINT NOT NULL,            -- bytes
  used     BIGINT NOT NULL DEFAULT 0,  -- stored bytes of live blobs
  reserved BIGINT NOT NULL DEFAULT 0,  -- of uploads under way
  trash    BIGINT NOT NULL DEFAULT 0,  -- of released blobs
  log      BIGINT NOT NULL DEFAULT 0,  -- of headers, batches, checkpoints
  head     BIGINT NOT NULL DEFAULT 0,  -- newest number of the feed
  disabled BIGINT NOT NULL DEFAULT 0,
  created  BIGINT NOT NULL,
  CHECK (used >= 0 AND reserved >= 0 AND trash >= 0 AND log >= 0)
);

CREATE TABLE invites (
  code    TEXT   NOT NULL PRIMARY KEY, -- SHA-256 of what was given out
  expires BIGINT NOT NULL,
  used_by BIGINT                       -- account
);

CREATE TABLE devices (
  account  BIGINT NOT NULL,
  device   TEXT   NOT NULL,
  pk       TEXT   NOT NULL,            -- hex
  revoked  BIGINT NOT NULL,
  cut      BIGINT NOT NULL DEFAULT 0,  -- last batch that counts of a revoked one
  seq      BIGINT NOT NULL DEFAULT 0,  -- last batch
  hash     TEXT   NOT NULL DEFAULT '',
  PRIMARY KEY (account, device)
);

CREATE TABLE sessions (
  token   TEXT   NOT NULL PRIMARY KEY, -- SHA-256 of it
  account BIGINT NOT NULL,
  device  TEXT   NOT NULL,
  expires BIGINT NOT NULL
);
CREATE INDEX sessions_account ON sessions (account, device);

CREATE TABLE nonces (
  nonce   TEXT   NOT NULL PRIMARY KEY, -- used ones only
  expires BIGINT NOT NULL
);

CREATE TABLE headers (
  account BIGINT NOT NULL,
  seq     BIGINT NOT NULL,
  hash    TEXT   NOT NULL,
  body    TEXT   NOT NULL,             -- the envelope
  PRIMARY KEY (account, seq)
);

CREATE TABLE passwords (
  account BIGINT NOT NULL,
  id      TEXT   NOT NULL,
  title   TEXT   NOT NULL,
  epoch   BIGINT NOT NULL,
  state   TEXT   NOT NULL,
  author  TEXT   NOT NULL,
  PRIMARY KEY (account, id)
);
CREATE TABLE notes (
  account BIGINT NOT NULL,
  id      TEXT   NOT NULL,
  title   TEXT   NOT NULL,
  epoch   BIGINT NOT NULL,
  state   TEXT   NOT NULL,
  author  TEXT   NOT NULL,
  PRIMARY KEY (account, id)
);
CREATE TABLE vault_items (
  account BIGINT NOT NULL,
  id      TEXT   NOT NULL,
  title   TEXT   NOT NULL,
  epoch   BIGINT NOT NULL,
  state   TEXT   NOT NULL,
  author  TEXT   NOT NULL,
  PRIMARY KEY (account, id)
);

CREATE TABLE vault_attachments (
  account     BIGINT NOT NULL,
  id          TEXT   NOT NULL,
  parent_type TEXT   NOT NULL,
  parent_id   TEXT   NOT NULL,
  name        TEXT   NOT NULL,
  mime        TEXT   NOT NULL,
  size_bytes  BIGINT NOT NULL,
  key_iv      TEXT   NOT NULL,
  key_ct      TEXT   NOT NULL,
  ev          BIGINT NOT NULL,
  created     BIGINT NOT NULL,
  blob        TEXT   NOT NULL,
  epoch       BIGINT,                  -- null: the client did not say
  version     BIGINT NOT NULL,
  state       TEXT   NOT NULL,
  author      TEXT   NOT NULL,
  PRIMARY KEY (account, id)
);
CREATE INDEX attachments_parent ON vault_attachments (account, parent_type, parent_id, id);
CREATE INDEX attachments_blob ON vault_attachments (account, blob);

CREATE TABLE blobs (
  account     BIGINT NOT NULL,
  blob        TEXT   NOT NULL,
  storage_key TEXT   NOT NULL,
  stored      BIGINT NOT NULL,
  sha256      TEXT   NOT NULL,
  state       TEXT   NOT NULL,
  purge_at    BIGINT,                  -- of a released one
  pledge      TEXT   NOT NULL DEFAULT '', -- slot of the upload whose reservation counts on its release
  PRIMARY KEY (account, blob)
);
CREATE INDEX blobs_purge ON blobs (purge_at) WHERE purge_at IS NOT NULL;

-- An upload that was admitted and has not ended. The newest attempt of a key
-- owns it.
CREATE TABLE upload_intents (
  account     BIGINT NOT NULL,
  slot        TEXT   NOT NULL,         -- blob id or Idempotency-Key
  attempt     TEXT   NOT NULL,
  blob        TEXT   NOT NULL,
  storage_key TEXT   NOT NULL,
  reserved    BIGINT NOT NULL,
  started     BIGINT NOT NULL,
  upload      TEXT   NOT NULL DEFAULT '', -- of one in parts: the store's state
  metadata    TEXT   NOT NULL DEFAULT '',
  PRIMARY KEY (account, slot)
);
CREATE INDEX intents_started ON upload_intents (started);

CREATE TABLE idempotency (
  account BIGINT NOT NULL,
  slot    TEXT   NOT NULL,
  print   TEXT   NOT NULL,             -- hash of what was asked
  id      TEXT   NOT NULL,             -- attachment
  expires BIGINT NOT NULL,
  PRIMARY KEY (account, slot)
);

CREATE TABLE batches (
  account BIGINT NOT NULL,
  device  TEXT   NOT NULL,
  seq     BIGINT NOT NULL,
  hash    TEXT   NOT NULL,
  n       BIGINT NOT NULL,             -- of the feed
  len     BIGINT NOT NULL,
  body    BYTEA  NOT NULL,
  PRIMARY KEY (account, device, seq)
);

CREATE TABLE checkpoints (
  account BIGINT NOT NULL,
  name    TEXT   NOT NULL,
  part    TEXT   NOT NULL,
  sha256  TEXT   NOT NULL,
  len     BIGINT NOT NULL,
  body    BYTEA  NOT NULL,
  PRIMARY KEY (account, name, part)
);

CREATE TABLE pairings (
  account BIGINT NOT NULL,
  pair    TEXT   NOT NULL,
  side    TEXT   NOT NULL,
  body    BYTEA  NOT NULL,
  expires BIGINT NOT NULL,
  PRIMARY KEY (account, pair, side)
);

-- One entry for each subject, with the number of its newest change.
CREATE TABLE feed (
  account BIGINT NOT NULL,
  subject TEXT   NOT NULL,
  n       BIGINT NOT NULL,
  entry   TEXT   NOT NULL,             -- the change as JSON
  PRIMARY KEY (account, subject)
);
CREATE UNIQUE INDEX feed_n ON feed (account, n);

CREATE TABLE rate (
  account BIGINT NOT NULL,
  class   TEXT   NOT NULL,
  times   TEXT   NOT NULL,             -- JSON: what was taken, when
  PRIMARY KEY (account, class)
);

CREATE TABLE audit_log (
  account     BIGINT NOT NULL,
  n           BIGINT NOT NULL,         -- counts up within the account, without a gap
  time        BIGINT NOT NULL,
  action      TEXT   NOT NULL,
  attachment  TEXT   NOT NULL,
  parent_type TEXT   NOT NULL,
  parent_id   TEXT   NOT NULL,
  size        BIGINT NOT NULL,
  author      TEXT   NOT NULL,
  request     TEXT   NOT NULL,
  PRIMARY KEY (account, n)
);

-- Objects that nothing names any more and that are to be deleted.
CREATE TABLE purge_queue (
  storage_key TEXT   NOT NULL PRIMARY KEY,
  account     BIGINT NOT NULL,
  due         BIGINT NOT NULL
);
CREATE INDEX purge_due ON purge_queue (due);

CREATE TABLE settings (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

-- +goose Down
SELECT 1;
