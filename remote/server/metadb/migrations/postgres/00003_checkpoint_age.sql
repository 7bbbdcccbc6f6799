-- When a checkpoint came: what it stands for may go a while after. Those that are
-- here begin to age now; a default reaches them all, row-level security or not.
ALTER TABLE checkpoints ADD COLUMN created BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint;
ALTER TABLE checkpoints ALTER COLUMN created DROP DEFAULT;
