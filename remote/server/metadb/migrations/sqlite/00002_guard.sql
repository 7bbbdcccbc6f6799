-- Entries of the audit log, counted in the account: the next number needs no look
-- at all of them.
ALTER TABLE accounts ADD COLUMN audits BIGINT NOT NULL DEFAULT 0;
UPDATE accounts SET audits = (SELECT coalesce(max(n), 0) FROM audit_log l WHERE l.account = accounts.account);

-- The audit log is only ever added to, but while the server's data are being
-- brought here from elsewhere.
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END;

CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit_log WHEN NOT EXISTS (SELECT 1 FROM settings WHERE name = 'moving')
BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END;
