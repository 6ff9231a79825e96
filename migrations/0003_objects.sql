-- What a checkpoint took time for besides bytes (daemon/core/deadline.ts); 0 where it was not counted.
ALTER TABLE throughput ADD COLUMN processes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE throughput ADD COLUMN threads INTEGER NOT NULL DEFAULT 0;
ALTER TABLE throughput ADD COLUMN files INTEGER NOT NULL DEFAULT 0;
ALTER TABLE throughput ADD COLUMN mappings INTEGER NOT NULL DEFAULT 0;
ALTER TABLE throughput ADD COLUMN connections INTEGER NOT NULL DEFAULT 0;
ALTER TABLE throughput ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;
