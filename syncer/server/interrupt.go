package server

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// statusWriter is what gRPC's own stream offers: it sends the status that ends a stream, and wakes whoever
// waits for the VM in it. A handler can do so only by returning, which one that waits cannot; a goroutine for
// each stream that waits in its stead would cost ten thousand VMs 80 MB.
type statusWriter interface {
	WriteStatus(said *status.Status) error
}

// interruptible is the context of a stream, and what ends the stream while its handler waits for the VM. The
// first reason given is the one that counts. No reason is for the end of the handler.
func interruptible(rpc watchStream) (ctx context.Context, end context.CancelCauseFunc, err error) {
	writer, found := grpc.ServerTransportStreamFromContext(rpc.Context()).(statusWriter)
	if !found {
		return nil, nil, errors.New("gRPC's streams cannot be ended from outside any more")
	}
	ctx, cancel := context.WithCancelCause(rpc.Context())
	end = func(cause error) {
		cancel(cause)
		if cause == nil {
			return // the handler has returned, and with it its status
		}
		// Where the VM has gone there is nobody to tell.
		_ = writer.WriteStatus(status.Convert(ending(context.Cause(ctx))))
	}
	return ctx, end, nil
}
