// Package transport brings clients to the NETCONF server: over SSH (RFC 6242)
// and over a unix socket for tools on this machine. It says who the peer is
// and hands over a byte stream; what the bytes mean is not known here.
//
// Not done: TLS (RFC 7589) and call home (RFC 8071).
package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"vrouter/mgmt/netconf/users"
)

// A Peer is a client that has shown who it is.
type Peer struct {
	User users.User
	// Transport is an identity of RFC 6022 or of a module that derives from
	// its base, as "module:name".
	Transport string
	// Host is the peer's address without port; "" when it is on this machine.
	Host string
	// Recovery marks a peer that is under no access rule (RFC 8341 section
	// 3.3.3): root or the server's own user, as the kernel says.
	Recovery bool
}

// A Handler serves one client until it returns; the stream is then closed.
// When ctx ends it should end the session in good order.
type Handler func(ctx context.Context, stream io.ReadWriteCloser, p Peer)

// accept calls serve for each connection, in its own goroutine, until ctx ends
// or the listener fails, and returns when all of them are done.
func accept(ctx context.Context, l net.Listener, log *slog.Logger, serve func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	pause := time.Millisecond
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = time.Millisecond
			all.Go(func() { serve(ctx, c) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, or a client gone before it was accepted
			log.Warn("accept failed; trying again", "addr", l.Addr().String(), "err", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, time.Second)
		}
	}
}
