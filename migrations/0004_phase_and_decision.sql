-- How durable a checkpoint's image is, what was decided, and whether Slurm has taken the job back: three facts in place of one
-- state (daemon/core/checkpoint-state.ts).
ALTER TABLE checkpoints ADD COLUMN phase TEXT NOT NULL DEFAULT 'writing' CHECK (phase IN ('writing', 'written', 'sealed', 'dropped'));
ALTER TABLE checkpoints ADD COLUMN decision TEXT NOT NULL DEFAULT 'none' CHECK (decision IN ('none', 'commit', 'abort'));
ALTER TABLE checkpoints ADD COLUMN requeued INTEGER NOT NULL DEFAULT 0 CHECK (requeued IN (0, 1));
UPDATE checkpoints SET
  phase = CASE
    WHEN state = 'dumping' THEN 'writing'
    WHEN state = 'prepared' OR (state = 'committed' AND keep_running = 1) THEN 'written'
    WHEN state = 'aborted' THEN 'dropped'
    ELSE 'sealed' END,
  decision = CASE
    WHEN state IN ('committed', 'requeued') OR (state = 'sealed' AND keep_running = 1) THEN 'commit'
    WHEN state = 'aborted' THEN 'abort'
    ELSE 'none' END,
  requeued = state = 'requeued';
ALTER TABLE checkpoints DROP COLUMN state;
