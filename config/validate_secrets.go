package config

import (
	"reflect"
	"strings"
)

// secrets are judged without ever being shown.
func (v *validator) secrets() {
	for path, text := range secretLeaves(reflect.ValueOf(v.Secrets), "secrets") {
		if path == "secrets.deployKey" || path == "secrets.sshKey" {
			continue // each is a file of several lines
		}
		if strings.TrimSpace(text) != text || strings.ContainsAny(text, "\r\n") {
			v.say(path, secretValue, "it holds a line break, or white space at an end", setCommand(path, true, ""))
		}
	}
	const login = "service-intesis logs in with it"
	intesis := v.Secrets.Intesis
	v.pair("secrets.intesis.username", intesis.Username, intesis.Password != "", "a password is given without it", login)
	v.pair("secrets.intesis.password", intesis.Password, intesis.Username != "", "a user name is given without it", login)

	const bot = "chat-hvac talks to Slack with it"
	slack := v.Secrets.Slack
	v.pair("secrets.slack.appToken", slack.AppToken, slack.BotToken != "", "the bot token is given without it", bot)
	v.pair("secrets.slack.botToken", slack.BotToken, slack.AppToken != "", "the app-level token is given without it", bot)
	v.prefix("secrets.slack.appToken", slack.AppToken, "xapp-", "an app-level token")
	v.prefix("secrets.slack.botToken", slack.BotToken, "xoxb-", "a bot token")
	v.deployKey()
	v.sshKey()
	v.notifications()
	v.grafanaAdmin()
	if v.Observability == Cloud && v.Secrets.Cloud.Token == "" {
		v.say("secrets.cloud.token", missing, "observability: cloud logs in with it", setCommand("secrets.cloud.token", true, ""))
	}
}

// grafanaAdmin: both halves or none.
func (v *validator) grafanaAdmin() {
	const shortest = 8
	const user, password = "secrets.grafana.username", "secrets.grafana.password"
	admin := v.Secrets.Grafana
	switch {
	case admin.Username == "" && admin.Password != "":
		v.say(user, missing, "a password is given without it", setCommand(user, true, ""))
	case admin.Username != "" && admin.Password == "":
		v.say(password, missing, "a user name is given without it", setCommand(password, true, ""))
	case admin.Password != "" && admin.Password != Encrypted && len(admin.Password) < shortest:
		v.say(password, secretValue, "the admin's password has 8 characters or more", setCommand(password, true, ""))
	}
}

// pair: both halves are needed, unless everything is mocked; then both or none.
func (v *validator) pair(path, value string, otherGiven bool, half, use string) {
	switch {
	case value != "" || !v.report.sound("hvac.mock"):
	case !v.HVAC.Mock:
		v.say(path, missing, use+", unless hvac.mock is true", setCommand(path, true, ""))
	case otherGiven:
		v.say(path, missing, half, setCommand(path, true, ""))
	}
}

func (v *validator) prefix(path, token, prefix, what string) {
	if token != "" && !strings.HasPrefix(strings.TrimSpace(token), prefix) {
		v.say(path, secretValue, what+" begins with "+prefix, setCommand(path, true, ""))
	}
}
