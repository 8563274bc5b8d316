package dockertest

import (
	"io"
	"net"
	"time"
)

// pass passes a connection on until either side ends.
func pass(from net.Conn, address string) {
	defer from.Close()
	to, err := net.DialTimeout("tcp", address, 10*time.Second)
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
