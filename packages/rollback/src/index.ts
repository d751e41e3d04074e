export {
  Checkpoint,
  checkpoint,
  openCheckpoint,
  type CheckpointMount,
  type CheckpointOptions,
  type CheckpointState,
  type Holder,
  type RollbackOptions,
  type RollbackResult,
  type Strategy,
  type StrategyName,
} from "./checkpoint.ts";
export { Change, type ChangeKind, type FileDiff, type FileState } from "./change.ts";
export { RollbackError } from "./errors.ts";
export type { EventSink, SnapshotEvent } from "./events.ts";
export { listCheckpoints, recover, type CheckpointSummary, type Recovered } from "./store.ts";
