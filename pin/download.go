package pin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

// stall is how long a server may send nothing.
const stall = time.Minute

var errStalled = errors.New("nothing came for a minute")

// Download fetches the files of a release into a folder, and holds them against their pins. A file that
// is there is not fetched again; one that was begun is gone on with. Under its name there is only ever
// the whole file.
func (s *Source) Download(ctx context.Context, release string, pins *Pins, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making a folder for k3s's files: %w", err)
	}
	// They are large, and Git has no business with them.
	ignore := filepath.Join(folder, ".gitignore")
	if _, err := os.Stat(ignore); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(ignore, []byte("*\n"), 0o644); err != nil { //nolint:gosec // nothing in it is secret
			return fmt.Errorf("keeping k3s's files out of Git: %w", err)
		}
	}
	if err := s.download(ctx, s.scriptURL(release), filepath.Join(folder, k3s.ScriptFile), pins.Script); err != nil {
		return err
	}
	return s.download(ctx, s.binaryURL(release), filepath.Join(folder, k3s.BinaryFile), pins.Binary)
}

func (s *Source) download(ctx context.Context, target, path, want string) error {
	name := filepath.Base(path)
	there, err := isThere(path, want)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if there {
		s.say(name + " is there")
		return nil
	}
	const enough = 12 // of the checksum, to tell releases apart
	part := path + "." + want[:enough] + ".part"
	if err := s.fill(ctx, target, part, name); err != nil {
		return fmt.Errorf("downloading %s: %w", name, err)
	}
	there, err = isThere(part, want)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", part, err)
	}
	if !there {
		_ = os.Remove(part) // going on with it would lead nowhere
		return fmt.Errorf("downloading %s: what came from %s has another checksum than %s, and was thrown away; "+
			"run the same command again, and if it happens again, ask whoever runs that server", name, target, want)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("keeping %s: %w", path, err)
	}
	return nil
}

// fill has a file hold all that the server has, from where it ends.
func (s *Source) fill(ctx context.Context, target, part, name string) error {
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // what is in it is public
	if err != nil {
		return err
	}
	defer file.Close()
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	err = s.get(ctx, target, have, func(response *http.Response, body io.Reader) error {
		switch response.StatusCode {
		case http.StatusPartialContent:
		case http.StatusRequestedRangeNotSatisfiable:
			return nil // it is all there, or wrong, which its checksum says
		default:
			have = 0
			if err := file.Truncate(0); err != nil {
				return err
			}
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
		_, err := io.Copy(file, s.counted(name, body, have, response.ContentLength))
		return err
	})
	return errors.Join(err, file.Close())
}

// get asks for a file from some byte on. A server that says nothing for a while is given up.
func (s *Source) get(ctx context.Context, target string, from int64, use func(*http.Response, io.Reader) error) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	patience := time.AfterFunc(stall, func() { giveUp(errStalled) })
	defer patience.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return because(ctx, fmt.Errorf("%w; is this machine on the internet? a folder that has the files will do: make pin FROM=FOLDER", err))
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s is not there; k3s's releases are listed at https://github.com/k3s-io/k3s/releases", target)
	case response.StatusCode == http.StatusRequestedRangeNotSatisfiable && from > 0:
	case response.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s: the server answers %s", target, response.Status)
	}
	return because(ctx, use(response, &patient{response.Body, patience}))
}

// because says why, where the context has ended something.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// patient is a body that begins to wait anew with whatever comes.
type patient struct {
	io.Reader

	timer *time.Timer
}

func (p *patient) Read(into []byte) (int, error) {
	n, err := p.Reader.Read(into)
	if n > 0 {
		p.timer.Reset(stall)
	}
	return n, err
}

func (s *Source) say(line string) {
	if s.Progress != nil {
		s.Progress(line)
	}
}

// counted tells of a large file how far it is.
func (s *Source) counted(name string, body io.Reader, have, rest int64) io.Reader {
	const small = 1 << 20
	if rest < small {
		return body
	}
	return &counter{Reader: body, say: s.say, name: name, have: have, all: have + rest, told: have}
}

type counter struct {
	io.Reader

	say             func(string)
	name            string
	have, all, told int64
}

func (c *counter) Read(into []byte) (int, error) {
	const lines = 10
	n, err := c.Reader.Read(into)
	c.have += int64(n)
	if c.have-c.told >= c.all/lines || c.have == c.all && c.told != c.all {
		c.told = c.have
		c.say(fmt.Sprintf("%s: %d of %d MB", c.name, c.have/1e6, c.all/1e6))
	}
	return n, err
}
