-- What synchronisation keeps: user_version 2. All of it is empty, and costs
-- nothing, until the ledger of the vault is turned on.

-- The exact bytes of every batch accepted or sealed.
CREATE TABLE batches (
  b      INTEGER PRIMARY KEY,
  device BLOB NOT NULL,
  seq    INTEGER NOT NULL,
  hash   BLOB NOT NULL,
  epoch  INTEGER NOT NULL,
  state  INTEGER NOT NULL, -- own: 1 sealed, 2 pushed; of others: 3 applied
  bytes  BLOB NOT NULL,
  UNIQUE (device, seq)
);

-- The ops of those batches that count, in the order they were accepted in.
-- sealed holds what the history needs of one, so that loading opens each once.
CREATE TABLE ops (
  n      INTEGER PRIMARY KEY,
  device BLOB NOT NULL,
  seq    INTEGER NOT NULL,
  idx    INTEGER NOT NULL,
  kind   INTEGER NOT NULL,
  digest BLOB,             -- of a record
  sealed BLOB NOT NULL
);
CREATE INDEX ops_digest ON ops (digest) WHERE digest IS NOT NULL;

-- Monotonic state of every device's chain, our own too.
CREATE TABLE peers (
  device BLOB PRIMARY KEY,
  seq    INTEGER NOT NULL, -- last batch applied, or sealed if it is ours
  hash   BLOB,
  epoch  INTEGER NOT NULL,
  hlc    INTEGER NOT NULL,
  seen   BLOB NOT NULL     -- what its batches have named so far: device, seq, hash
) WITHOUT ROWID;

CREATE TABLE remotes (
  id     BLOB PRIMARY KEY,
  sealed BLOB NOT NULL,    -- address and settings
  cursor BLOB
) WITHOUT ROWID;

CREATE TABLE blob_presence (
  blob   BLOB PRIMARY KEY,
  state  INTEGER NOT NULL, -- 1 sent by its author, 2 acknowledged to this device
  device BLOB
) WITHOUT ROWID;

CREATE TABLE alarms (
  n      INTEGER PRIMARY KEY,
  time   INTEGER NOT NULL,
  kind   TEXT NOT NULL,
  sealed BLOB NOT NULL
);

-- A draft whose file a change from elsewhere replaced: what it was begun on.
ALTER TABLE drafts ADD COLUMN base BLOB;

-- said: 1 when others need not be told, since they said so or have been told.
ALTER TABLE blob_presence ADD COLUMN said INTEGER NOT NULL DEFAULT 1;
-- wanted: when it was last sent because another device could not fetch it.
ALTER TABLE blob_presence ADD COLUMN wanted INTEGER NOT NULL DEFAULT 0;

-- Contents to be sent, and what is known of those that are hard to send or to
-- fetch. A job to send one comes with the batch that names it.
CREATE TABLE transfer_jobs (
  j      INTEGER PRIMARY KEY AUTOINCREMENT, -- counts up for ever: who has seen one has seen all before it
  blob   BLOB NOT NULL,
  up     INTEGER NOT NULL,    -- 1 to send, 0 to fetch
  size   INTEGER NOT NULL,
  seq    INTEGER NOT NULL,    -- own batch that goes first
  sealed BLOB,                -- how it went so far; none: not tried
  UNIQUE (blob, up)
);

-- Contents that a batch of ours named and that lost their last row before any
-- remote had them. Somebody may have built on such a record, so they stay until
-- that is out of the question.
CREATE TABLE kept (
  k      INTEGER PRIMARY KEY,
  blob   BLOB NOT NULL UNIQUE,
  id     BLOB NOT NULL,    -- attachment that had it
  len    INTEGER NOT NULL,
  sha256 BLOB,
  since  INTEGER NOT NULL, -- ns
  seq    INTEGER NOT NULL, -- own batch that says what became of it; 0 not sealed yet
  fresh  BLOB              -- the bytes; null: in a file
);

-- Until when a remote asked not to be bothered with a kind of request.
CREATE TABLE gates (
  remote BLOB NOT NULL,
  class  TEXT NOT NULL,
  until  INTEGER NOT NULL,
  PRIMARY KEY (remote, class)
) WITHOUT ROWID;

-- Headers that are known and not accepted: from the first of an epoch whose
-- password has not been given here on, or one made here that the remote is not
-- known to have.
CREATE TABLE pending_headers (
  seq     INTEGER PRIMARY KEY,
  payload BLOB NOT NULL,
  sig     BLOB NOT NULL,
  own     INTEGER NOT NULL -- 1: made here
);

-- Checkpoints known to be on the remote, or made here and to be put there.
CREATE TABLE checkpoints (
  c       INTEGER PRIMARY KEY,
  device  BLOB NOT NULL,    -- its author, whose batch
  seq     INTEGER NOT NULL, -- it covers last: together its name
  hlc     INTEGER NOT NULL,
  parts   INTEGER NOT NULL, -- before the last
  state   INTEGER NOT NULL, -- 1 ours and not on the remote, 2 on the remote
  verdict INTEGER NOT NULL, -- 0 not compared, 1 it agrees with our log, 2 it does not
  held    INTEGER NOT NULL, -- bytes of all its frames if they are kept here, else 0
  frame   BLOB NOT NULL,    -- the last part
  UNIQUE (device, seq)
);

-- Their frames: of those made here, and of the base, which stands for the
-- batches it covers.
CREATE TABLE checkpoint_parts (
  c      INTEGER NOT NULL,
  part   INTEGER NOT NULL,
  first  BLOB NOT NULL,     -- place of its first op
  bytes  BLOB NOT NULL,
  PRIMARY KEY (c, part)
);
CREATE INDEX checkpoint_first ON checkpoint_parts (c, first);

-- Attachments, folders and assets whose contents stay on this device.
CREATE TABLE pins (
  id BLOB PRIMARY KEY
) WITHOUT ROWID;

-- Contents that were given up here on purpose: nobody fetches them ahead.
CREATE TABLE evicted (
  blob BLOB PRIMARY KEY
) WITHOUT ROWID;

-- What a server of ours says of attachments and assets for clients that read no
-- log: what is known of it, so that only what differs is written.
CREATE TABLE server_rows (
  kind   INTEGER NOT NULL, -- 0 attachment, 1 asset
  id     BLOB NOT NULL,
  number INTEGER NOT NULL, -- the server's counter for the row: a writer names the one it read
  state  INTEGER NOT NULL, -- 1 live, 2 deleted, 3 a client asked to delete it, 4 no record names it, 5 that, and it is to be deleted
  print  BLOB,             -- of the records and the epoch that it was found to say; null: something else
  row    BLOB,             -- as it came, until it is compared, or while no record names it
  PRIMARY KEY (kind, id)
) WITHOUT ROWID;
