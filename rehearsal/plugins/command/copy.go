package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pkg/sftp"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// unfitSource says why a source can't be copied, if it can't.
func unfitSource(value resource.PropertyValue) string {
	switch {
	case value.IsAsset() && (value.AssetValue().IsPath() || value.AssetValue().IsText()):
		return ""
	case value.IsArchive() && value.ArchiveValue().IsPath():
		return ""
	case value.IsAsset():
		return "asset must be a path-based file asset or a text asset for the stand-in of the command plugin; " + installOfficial
	default:
		return "archive must be a path to a file or directory for the stand-in of the command plugin; " + installOfficial
	}
}

// sameCopy tells that there is nothing to copy again, whatever else has changed.
func sameCopy(olds, news resource.PropertyMap) bool {
	return hashOf(olds["source"]) == hashOf(news["source"]) &&
		plain(olds["remotePath"]).DeepEquals(plain(news["remotePath"]))
}

func hashOf(source resource.PropertyValue) string {
	switch source = plain(source); {
	case source.IsAsset():
		return source.AssetValue().Hash
	case source.IsArchive():
		return source.ArchiveValue().Hash
	default:
		return ""
	}
}

// copyToRemote copies a text, a file or a folder, as they are, by SFTP.
func copyToRemote(ctx context.Context, in inputs, source resource.PropertyValue, say speaker) error {
	connection, hangUp, err := in.Connection.dial(ctx, say)
	if err != nil {
		return err
	}
	defer hangUp()
	client, err := sftp.NewClient(connection)
	if err != nil {
		return fmt.Errorf("starting SFTP: %w", err)
	}
	defer client.Close()
	remote := remoteFiles{client}
	source = plain(source)
	if source.IsAsset() && source.AssetValue().IsText() {
		return remote.text(source.AssetValue().Text, in.RemotePath)
	}
	local := ""
	if source.IsAsset() {
		local = source.AssetValue().Path
	} else if source.IsArchive() {
		local = source.ArchiveValue().Path
	}
	info, err := os.Stat(local)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return remote.folder(local, in.RemotePath)
	}
	return remote.file(local, in.RemotePath)
}

// remoteFiles are those of the machine that is copied to, whose paths have slashes.
type remoteFiles struct{ *sftp.Client }

// stat has neither information nor an error where there is nothing.
func (r remoteFiles) stat(at string) (fs.FileInfo, error) {
	info, err := r.Stat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // nothing is there
	case err != nil:
		return nil, fmt.Errorf("failed to stat remote path %s: %w", at, err)
	default:
		return info, nil
	}
}

// text wants the path of a file, not of a folder: it has no name of its own.
func (r remoteFiles) text(content, at string) error {
	there, err := r.stat(at)
	if err != nil {
		return err
	}
	if there != nil && there.IsDir() {
		return fmt.Errorf("remote path %s is a directory; when using a text asset, remotePath must be a file path", at)
	}
	return r.write(strings.NewReader(content), at)
}

// file goes into the folder that is there, or else becomes what the path says.
func (r remoteFiles) file(local, at string) error {
	there, err := r.stat(at)
	if err != nil {
		return err
	}
	if there != nil && there.IsDir() {
		at = path.Join(at, filepath.Base(local))
	}
	return r.copyFile(local, at)
}

// folder goes into the one that is there or is made; with a slash at its end, only what is in
// it does.
func (r remoteFiles) folder(local, at string) error {
	if !strings.HasSuffix(local, "/") {
		at = path.Join(at, filepath.Base(local))
	}
	if err := r.mkdir(at); err != nil {
		return err
	}
	return fs.WalkDir(os.DirFS(local), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return r.mkdir(path.Join(at, name))
		}
		return r.copyFile(filepath.Join(local, filepath.FromSlash(name)), path.Join(at, name))
	})
}

func (r remoteFiles) mkdir(at string) error {
	there, err := r.stat(at)
	if err != nil {
		return err
	}
	if there != nil && !there.IsDir() {
		return fmt.Errorf("remote path %s exists but is not a directory", at)
	}
	if err := r.MkdirAll(at); err != nil {
		return fmt.Errorf("failed to create remote directory %s: %w", at, err)
	}
	return nil
}

func (r remoteFiles) copyFile(local, at string) error {
	file, err := os.Open(local)
	if err != nil {
		return err
	}
	defer file.Close()
	return r.write(file, at)
}

// write makes the folders that a file needs. The file's mode is what the server makes of it.
func (r remoteFiles) write(content io.Reader, at string) (err error) {
	if err := r.MkdirAll(path.Dir(at)); err != nil {
		return fmt.Errorf("failed to create parent directories for %s: %w", at, err)
	}
	file, err := r.Create(at)
	if err != nil {
		return fmt.Errorf("failed to create remote file %s: %w", at, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.ReadFrom(content); err != nil {
		return fmt.Errorf("failed to write to remote path %s: %w", at, err)
	}
	return nil
}
