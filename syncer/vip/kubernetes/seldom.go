package kubernetes

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// seldom is a log handler that passes each warning and error on once in a while: who stands for election says
// every two seconds that the API server is not there.
type seldom struct {
	slog.Handler
	said *said
}

// said is when each message was passed on last. There are as many as client-go has.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
}

func newSeldom(handler slog.Handler) seldom {
	return seldom{handler, &said{at: map[string]time.Time{}}}
}

// Handle implements slog.Handler.
func (s seldom) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn && s.said.lately(record.Message, record.Time) {
		return nil
	}
	return s.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (s seldom) WithAttrs(attributes []slog.Attr) slog.Handler {
	return seldom{s.Handler.WithAttrs(attributes), s.said}
}

// WithGroup implements slog.Handler.
func (s seldom) WithGroup(name string) slog.Handler {
	return seldom{s.Handler.WithGroup(name), s.said}
}

func (s *said) lately(message string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, found := s.at[message]; found && now.Sub(last) < logInterval {
		return true
	}
	s.at[message] = now
	return false
}
