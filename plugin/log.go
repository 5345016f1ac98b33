package meshvm

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin(pluginName)

// newLogger is a structured logger that writes to CoreDNS's own log, one line a record: the message,
// then key=value.
func newLogger() *slog.Logger { return slog.New(newLogHandler()) }

// logHandler formats with slog's text handler and leaves time and level to CoreDNS.
type logHandler struct {
	slog.Handler
	out *lineBuffer
}

// lineBuffer is where a record is formatted. It is shared by handlers that derive from one.
type lineBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func newLogHandler() *logHandler {
	out := &lineBuffer{}
	text := slog.NewTextHandler(out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && (attr.Key == slog.TimeKey || attr.Key == slog.LevelKey || attr.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return attr
		},
	})
	return &logHandler{text, out}
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.Reset()
	if err := h.Handler.Handle(ctx, record); err != nil {
		return err
	}
	line := printable(record.Message)
	// The text handler quotes what would not print.
	if attrs := bytes.TrimSpace(h.out.Bytes()); len(attrs) > 0 {
		line += ": " + string(attrs)
	}
	switch {
	case record.Level >= slog.LevelError:
		log.Error(line)
	case record.Level >= slog.LevelWarn:
		log.Warning(line)
	case record.Level >= slog.LevelInfo:
		log.Info(line)
	default:
		log.Debug(line)
	}
	return nil
}

// printable is a text on one line, without what a terminal would act on: CoreDNS's log writes what it is given.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name), h.out}
}
