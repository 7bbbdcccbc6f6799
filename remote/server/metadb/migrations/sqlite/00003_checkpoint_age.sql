-- When a checkpoint came: what it stands for may go a while after. Those that are
-- here begin to age now.
ALTER TABLE checkpoints ADD COLUMN created BIGINT NOT NULL DEFAULT 0;
UPDATE checkpoints SET created = CAST(strftime('%s', 'now') AS INTEGER) * 1000;
