package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// endpoint is a machine that is reached by SSH.
type endpoint struct {
	Host               string    `json:"host"`
	User               *string   `json:"user"`
	Port               *float64  `json:"port"`
	Password           *string   `json:"password"`
	PrivateKey         *string   `json:"privateKey"`
	PrivateKeyPassword *string   `json:"privateKeyPassword"`
	AgentSocketPath    *string   `json:"agentSocketPath"`
	HostKey            *string   `json:"hostKey"`
	DialErrorLimit     *float64  `json:"dialErrorLimit"` // below 0: no limit
	PerDialTimeout     *float64  `json:"perDialTimeout"` // seconds for reaching the port; 0: no limit
	Proxy              *endpoint `json:"proxy"`
}

// dial reaches a machine, through its proxy if it has one. The function that it returns ends
// all that was opened for it.
func (e endpoint) dial(ctx context.Context, say speaker) (client *ssh.Client, hangUp func(), err error) {
	var opened []func() error
	end := func() {
		for i := range opened {
			_ = opened[len(opened)-1-i]()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	config, release, err := e.clientConfig(ctx)
	if err != nil {
		return nil, nil, err
	}
	opened = append(opened, release)
	if e.Proxy == nil {
		client, err = retrying(ctx, "Dial", e.limit(), say, func() (*ssh.Client, error) { return ssh.Dial("tcp", e.address(), config) })
		if err == nil {
			opened = append(opened, client.Close)
		}
		return client, end, err
	}
	inProxy := func(err error) error { return fmt.Errorf("proxy: %w", err) }
	proxyConfig, release, err := e.Proxy.clientConfig(ctx)
	if err != nil {
		return nil, nil, inProxy(err)
	}
	opened = append(opened, release)
	proxy, err := retrying(ctx, "Dial proxy", e.Proxy.limit(), say, func() (*ssh.Client, error) {
		return ssh.Dial("tcp", e.Proxy.address(), proxyConfig)
	})
	if err != nil {
		return nil, nil, inProxy(err)
	}
	opened = append(opened, proxy.Close)
	tunnel, err := retrying(ctx, "Dial from proxy", e.limit(), say, func() (net.Conn, error) { return proxy.Dial("tcp", e.address()) })
	if err != nil {
		return nil, nil, inProxy(err)
	}
	opened = append(opened, tunnel.Close)
	client, err = retrying(ctx, "Dial", e.limit(), say, func() (*ssh.Client, error) {
		connection, channels, requests, err := ssh.NewClientConn(tunnel, e.address(), config)
		if err != nil {
			return nil, err
		}
		return ssh.NewClient(connection, channels, requests), nil
	})
	if err != nil {
		return nil, nil, inProxy(err)
	}
	opened = append(opened, client.Close)
	return client, end, nil
}

func (e endpoint) address() string {
	port := 22
	if e.Port != nil {
		port = int(*e.Port)
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(port))
}

func (e endpoint) limit() int {
	if e.DialErrorLimit == nil {
		return 10
	}
	return int(*e.DialErrorLimit)
}

// clientConfig has every way to log in that there is: the key first, then the password, then
// the agent. The function that it returns leaves the agent.
func (e endpoint) clientConfig(ctx context.Context) (*ssh.ClientConfig, func() error, error) {
	release := func() error { return nil }
	config := &ssh.ClientConfig{User: "root", Timeout: 15 * time.Second, HostKeyCallback: ssh.InsecureIgnoreHostKey()} //nolint:gosec // as the official one, where no host key is given
	if e.User != nil {
		config.User = *e.User
	}
	if e.PerDialTimeout != nil {
		config.Timeout = time.Duration(*e.PerDialTimeout) * time.Second
	}
	if e.HostKey != nil {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(*e.HostKey))
		if err != nil {
			return nil, nil, fmt.Errorf("failed to parse host key: %w", err)
		}
		config.HostKeyCallback, config.HostKeyAlgorithms = ssh.FixedHostKey(key), []string{key.Type()}
	}
	if e.PrivateKey != nil {
		key, err := e.signer()
		if err != nil {
			return nil, nil, err
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(key))
	}
	if e.Password != nil {
		config.Auth = append(config.Auth, ssh.Password(*e.Password), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range answers {
					answers[i] = *e.Password
				}
				return answers, nil
			}))
	}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if e.AgentSocketPath != nil {
		socket = *e.AgentSocketPath
	} else if socket == "" {
		return config, release, nil
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, err
	}
	config.Auth = append(config.Auth, ssh.PublicKeysCallback(agent.NewClient(connection).Signers))
	return config, connection.Close, nil
}

func (e endpoint) signer() (ssh.Signer, error) {
	if e.PrivateKeyPassword != nil {
		return ssh.ParsePrivateKeyWithPassphrase([]byte(*e.PrivateKey), []byte(*e.PrivateKeyPassword))
	}
	return ssh.ParsePrivateKey([]byte(*e.PrivateKey))
}

// retrying tries again until it has failed more often than it may, waiting ever longer, but
// never more than 5 s.
func retrying[T any](ctx context.Context, what string, limit int, say speaker, try func() (T, error)) (T, error) {
	var none T
	shown := strconv.Itoa(limit)
	if limit < 0 {
		shown = "inf"
	}
	delay := 100 * time.Millisecond
	for failures := 1; ; failures++ {
		result, err := try()
		if err == nil {
			return result, nil
		}
		if limit >= 0 && failures > limit {
			return none, fmt.Errorf("after %d failed attempts: %w", limit, err)
		}
		say.status(fmt.Sprintf("%s %d/%s failed: retrying", what, failures, shown))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return none, errors.Join(ctx.Err(), err)
		}
		delay = min(delay*3/2, 5*time.Second)
	}
}
