// Package forward passes TCP connections on.
package forward

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// Listen listens at an address until the context ends, and passes what comes on to another, which
// it asks for each time. It says which address it got.
func Listen(ctx context.Context, address string, to func() string) (net.Addr, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(ctx, connection, to())
		}
	}()
	return listener.Addr(), nil
}

// pass ends with either side.
func pass(ctx context.Context, from net.Conn, address string) {
	defer from.Close()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	to, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
}
