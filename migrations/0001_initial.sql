-- Times are milliseconds since 1970, sizes bytes, durations milliseconds.

-- A job under Stint from first start to end, across its requeues.
CREATE TABLE runs (
  id          TEXT PRIMARY KEY,
  job_id      INTEGER NOT NULL,
  uid         INTEGER NOT NULL,
  gid         INTEGER NOT NULL,
  user        TEXT NOT NULL,
  options     TEXT NOT NULL,
  hostname    TEXT NOT NULL,
  address     TEXT NOT NULL,
  script      TEXT NOT NULL,
  -- JSON: output files of this stint that are not opened for appending; a requeue truncates them.
  outputs     TEXT NOT NULL,
  history     TEXT NOT NULL DEFAULT '[]',
  created_at  INTEGER NOT NULL,
  ended_at    INTEGER,
  wait_status INTEGER,
  error_code  TEXT,
  error       TEXT
) STRICT;
CREATE INDEX runs_by_job ON runs (job_id, created_at);

-- A run's place on this node during one stint.
CREATE TABLE members (
  id             INTEGER PRIMARY KEY,
  run_id         TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  member         INTEGER NOT NULL,
  restarts       INTEGER NOT NULL,
  node           TEXT NOT NULL,
  state          TEXT NOT NULL CHECK (state IN ('opening', 'restoring', 'running', 'dumping', 'held', 'ended')),
  guard_pid      INTEGER NOT NULL,
  guard_start    INTEGER NOT NULL,
  pid1           INTEGER,
  pid1_start     INTEGER,
  payload_cgroup TEXT NOT NULL,
  end_time       INTEGER,
  restore_from   INTEGER,
  opened_at      INTEGER NOT NULL,
  ended_at       INTEGER
) STRICT;
CREATE INDEX members_alive ON members (state) WHERE state <> 'ended';

CREATE TABLE checkpoints (
  id           INTEGER PRIMARY KEY,
  run_id       TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  number       INTEGER NOT NULL,
  trigger      TEXT NOT NULL CHECK (trigger IN ('walltime', 'preemption', 'signal', 'schedule', 'request', 'drain')),
  keep_running INTEGER NOT NULL CHECK (keep_running IN (0, 1)),
  state        TEXT NOT NULL CHECK (state IN ('dumping', 'prepared', 'sealed', 'committed', 'requeued', 'aborted')),
  engine_pid   INTEGER,
  engine_start INTEGER,
  started_at   INTEGER NOT NULL,
  frozen_ms    INTEGER,
  seconds      REAL,
  error_code   TEXT,
  error        TEXT,
  UNIQUE (run_id, number)
) STRICT;

CREATE TABLE images (
  checkpoint_id INTEGER NOT NULL REFERENCES checkpoints (id) ON DELETE CASCADE,
  member        INTEGER NOT NULL,
  path          TEXT NOT NULL,
  bytes         INTEGER NOT NULL,
  PRIMARY KEY (checkpoint_id, member)
) STRICT;

CREATE TABLE events (
  id     INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  at     INTEGER NOT NULL,
  kind   TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (run_id, id);

CREATE TABLE throughput (
  id    INTEGER PRIMARY KEY,
  store TEXT NOT NULL,
  at    INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  ms    INTEGER NOT NULL
) STRICT;
