-- Runs over several nodes.

-- JSON: host names for life, by member.
ALTER TABLE runs ADD COLUMN hosts TEXT NOT NULL DEFAULT '[]';
-- JSON: VXLAN id and address prefix; null for a run on one node.
ALTER TABLE runs ADD COLUMN network TEXT;
-- JSON: the launch book (daemon/core/launch-book.ts); the coordinator's.
ALTER TABLE runs ADD COLUMN launches TEXT NOT NULL DEFAULT '{"nextId":1,"nextSeq":1,"launches":[],"orders":[]}';

-- JSON: nodes of this stint, by member.
ALTER TABLE members ADD COLUMN nodes TEXT NOT NULL DEFAULT '[]';
-- The node whose daemon decides for the run; null where this one does.
ALTER TABLE members ADD COLUMN coordinator TEXT;
-- JSON: other members that are open, as the coordinator started them: member, node, and process id and start time of their srun.
ALTER TABLE members ADD COLUMN others TEXT NOT NULL DEFAULT '[]';
-- A restore of several members was decided: all run on.
ALTER TABLE members ADD COLUMN resume_decided INTEGER NOT NULL DEFAULT 0 CHECK (resume_decided IN (0, 1));
