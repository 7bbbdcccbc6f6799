package syncer

import "context"

// takeCheckpoints is told of the complete checkpoints that are new.
func (e *Engine) takeCheckpoints(context.Context, []Change) error { return nil }
