// Package githubapi asks GitHub about the deploy keys of one repository.
package githubapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-github/v74/github"
	"golang.org/x/crypto/ssh"
)

const (
	// defaultBaseURL is github.com's own, which has no /api/v3.
	defaultBaseURL = "https://api.github.com/"
	// bound is for one question, however many pages its answer has.
	bound = 15 * time.Second
)

// permission is what a token needs to register a deploy key.
const permission = "a fine-grained token of that one repository will do, with the permission Administration: read and write"

// ErrDenied says that GitHub answered, and that the token is not good enough.
var ErrDenied = errors.New("the token may not administer the repository")

// Repository is one at GitHub, and what it is asked with.
type Repository struct {
	// BaseURL is where the GitHub API is: https://api.github.com/.
	BaseURL string
	// Owner and Name are those of the repository.
	Owner, Name string
	// Token goes nowhere but into a header.
	Token string
}

// DeployKey is one that is registered.
type DeployKey struct {
	// ID is GitHub's number of it.
	ID int64
	// Title is shown in the repository's settings.
	Title string
	// ReadOnly keys can't push.
	ReadOnly bool

	public string // type and key, without a comment
}

// DeployKeyOf finds the registration of a public key; nil where it isn't registered.
func (r *Repository) DeployKeyOf(ctx context.Context, key ssh.PublicKey) (*DeployKey, error) {
	keys, err := r.deployKeys(ctx)
	if err != nil {
		return nil, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	if i := slices.IndexFunc(keys, func(k DeployKey) bool { return k.public == line }); i >= 0 {
		return &keys[i], nil
	}
	return nil, nil //nolint:nilnil // that it isn't registered is an answer
}

// Delete takes a registration away.
func (r *Repository) Delete(ctx context.Context, key *DeployKey) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	client, err := r.client()
	if err != nil {
		return err
	}
	if _, err := client.Repositories.DeleteKey(ctx, r.Owner, r.Name, key.ID); err != nil {
		return r.explain("deleting a deploy key of", err)
	}
	return nil
}

// CheckAdministers says whether the token may do what registering a deploy key takes, as far as that
// can be told without changing anything: that a fine-grained token may write, GitHub doesn't tell. The
// error is an ErrDenied where GitHub says no.
func (r *Repository) CheckAdministers(ctx context.Context) error {
	_, err := r.deployKeys(ctx)
	return err
}

func (r *Repository) deployKeys(ctx context.Context) ([]DeployKey, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	var keys []DeployKey
	options := &github.ListOptions{PerPage: 100}
	for {
		page, response, err := client.Repositories.ListKeys(ctx, r.Owner, r.Name, options)
		if err != nil {
			return nil, r.explain("asking GitHub for the deploy keys of", err)
		}
		for _, key := range page {
			fields := strings.Fields(key.GetKey())
			keys = append(keys, DeployKey{
				ID: key.GetID(), Title: key.GetTitle(), ReadOnly: key.GetReadOnly(), public: strings.Join(fields[:min(2, len(fields))], " "),
			})
		}
		if response.NextPage == 0 {
			return keys, nil
		}
		options.Page = response.NextPage
	}
}

func (r *Repository) client() (*github.Client, error) {
	client := github.NewClient(&http.Client{Transport: &authenticated{repository: r}})
	if r.BaseURL == "" || r.BaseURL == defaultBaseURL {
		return client, nil
	}
	client, err := client.WithEnterpriseURLs(r.BaseURL, r.BaseURL)
	if err != nil {
		return nil, errors.New("asking GitHub: its API has no URL of the form https://HOST/")
	}
	return client, nil
}

// authenticated logs in at the API alone: whoever a redirect leads to gets no token.
type authenticated struct{ repository *Repository }

func (a *authenticated) RoundTrip(request *http.Request) (*http.Response, error) {
	if base, err := url.Parse(a.repository.baseURL()); err == nil && base.Host == request.URL.Host {
		request = request.Clone(request.Context())
		request.Header.Set("Authorization", "Bearer "+a.repository.Token)
	}
	return http.DefaultTransport.RoundTrip(request)
}

func (r *Repository) baseURL() string {
	if r.BaseURL == "" {
		return defaultBaseURL
	}
	return r.BaseURL
}

// explain says what a refusal means, and what to do about it.
func (r *Repository) explain(doing string, err error) error {
	doing += " " + r.Owner + "/" + r.Name
	refused, ok := errors.AsType[*github.ErrorResponse](err)
	if !ok {
		return fmt.Errorf("%s: %w", doing, r.withoutToken(err))
	}
	mend := ""
	switch refused.Response.StatusCode {
	case http.StatusUnauthorized:
		mend = "the token is wrong, has expired or was revoked"
	case http.StatusForbidden:
		mend = "the token lacks a permission"
	case http.StatusNotFound:
		mend = "there is no such repository, or the token may not see it; check git.url"
	default:
		return fmt.Errorf("%s: GitHub answers %s", doing, said(refused))
	}
	return fmt.Errorf("%s: %w: GitHub answers %s: %s; %s", doing, ErrDenied, said(refused), mend, permission)
}

func said(refused *github.ErrorResponse) string {
	return strings.TrimSpace(strconv.Itoa(refused.Response.StatusCode) + " " + refused.Message)
}

// withoutToken makes sure of what should never be: that somebody quoted the token.
func (r *Repository) withoutToken(err error) error {
	if r.Token == "" || !strings.Contains(err.Error(), r.Token) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), r.Token, "[token]")) //nolint:err113 // the chain is what quotes it
}
