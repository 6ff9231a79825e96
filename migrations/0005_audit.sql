-- The boot of the kernel that a member's processes were of (/proc/sys/kernel/random/boot_id); empty where it was not recorded.
ALTER TABLE members ADD COLUMN boot TEXT NOT NULL DEFAULT '';

-- Who has saved, restored, removed or drained what (daemon/images/audit.ts). Rows outlive their runs. Append only: see the triggers.
CREATE TABLE audit (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  at         INTEGER NOT NULL,
  -- Who asked; null where Slurm or the daemon itself did, and the PID where another node's daemon passed it on.
  uid        INTEGER,
  pid        INTEGER,
  channel    TEXT NOT NULL,
  action     TEXT NOT NULL,
  -- The job, and whose it is.
  job        INTEGER,
  run        TEXT,
  owner      INTEGER,
  user       TEXT,
  checkpoint INTEGER,
  -- SHA-256 of the manifest of member 0, which has the checksums of all files of the image.
  image      TEXT,
  -- `done`, or a code of daemon/core/errors.ts.
  outcome    TEXT NOT NULL,
  detail     TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_job ON audit (job);

-- How long rows stay (audit.keep_days); younger ones cannot be deleted.
CREATE TABLE audit_retention (
  one       INTEGER PRIMARY KEY CHECK (one = 1),
  keep_days REAL NOT NULL
) STRICT;
INSERT INTO audit_retention VALUES (1, 365);

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
  SELECT RAISE(ABORT, 'the audit record is append-only');
END;

CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN
  SELECT RAISE(ABORT, 'the audit record is append-only');
END;

CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit WHEN OLD.at > unixepoch() * 1000 - (SELECT keep_days FROM audit_retention) * 86400000
BEGIN
  SELECT RAISE(ABORT, 'the audit record is kept for audit.keep_days');
END;
