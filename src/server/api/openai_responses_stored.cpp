#include "server/api/openai_responses_stored.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>

#include "server/api/openai_common.h"
#include "server/api_error.h"

namespace mlx_flash::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostPage = 100;
constexpr size_t kUsualPage = 20;

std::shared_ptr<const StoredResponse> find(
    ResponseStore& store,
    const std::string& id) {
  auto found = store.find(id);
  if (!found) {
    throw ApiError(
        ApiErrorKind::not_found,
        fmt::format(
            "there is no response '{}' here (any more)", id.substr(0, 256)))
        .at("response_id");
  }
  return found;
}

int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0'
      : c >= 'a' && c <= 'f'  ? c - 'a' + 10
      : c >= 'A' && c <= 'F'  ? c - 'A' + 10
                              : -1;
}

std::string decoded(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
        hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0;
    if (escape) {
      result += static_cast<char>(
          hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      result += text[i] == '+' ? ' ' : text[i];
    }
  }
  return result;
}

// The last of each name. Names that are not among `known` are an error.
std::map<std::string, std::string> read_query(
    std::string_view query,
    std::initializer_list<const char*> known) {
  std::map<std::string, std::string> values;
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (pair.empty()) {
      continue;
    }
    const size_t equals = pair.find('=');
    std::string name = decoded(pair.substr(0, equals));
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      name = name.substr(0, 64);
      throw invalid_field(
          name, fmt::format("{} is not a parameter that is known here", name));
    }
    values[name] = equals == std::string_view::npos
        ? ""
        : decoded(pair.substr(equals + 1));
  }
  return values;
}

size_t page_size(const std::map<std::string, std::string>& query) {
  const auto found = query.find("limit");
  if (found == query.end()) {
    return kUsualPage;
  }
  const std::string& text = found->second;
  size_t size = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, size);
  if (error != std::errc() || stop != end || size < 1 || size > kMostPage) {
    throw invalid_field(
        "limit",
        fmt::format("limit must be an integer from 1 to {}", kMostPage));
  }
  return size;
}

// The newest first, unless it is asked for the other way round.
std::vector<ItemPtr> in_order(
    std::vector<ItemPtr> items,
    const std::map<std::string, std::string>& query) {
  const auto found = query.find("order");
  const std::string order = found == query.end() ? "desc" : found->second;
  if (order != "asc" && order != "desc") {
    throw invalid_field("order", "order must be asc or desc");
  }
  if (order == "desc") {
    std::reverse(items.begin(), items.end());
  }
  return items;
}

void skip_up_to(
    std::vector<ItemPtr>& items,
    const std::map<std::string, std::string>& query) {
  const auto after = query.find("after");
  if (after == query.end()) {
    return;
  }
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const ItemPtr& item) {
        return item->id == after->second;
      });
  if (found == items.end()) {
    throw invalid_field("after", "after must be the id of one of the items");
  }
  items.erase(items.begin(), found + 1);
}

} // namespace

HttpResponse get_response(
    ResponseStore& store,
    const std::string& id,
    std::string_view query) {
  // What `include` can name is there if it is there at all.
  const auto values = read_query(
      query,
      {"include",
       "include[]",
       "include_obfuscation",
       "starting_after",
       "stream"});
  if (const auto stream = values.find("stream");
      stream != values.end() && stream->second != "false") {
    throw invalid_field(
        "stream", "stream is not supported: responses that are kept are over");
  }
  HttpResponse response;
  response.body = find(store, id)->json;
  return response;
}

HttpResponse list_input_items(
    ResponseStore& store,
    const std::string& id,
    std::string_view query) {
  const auto values =
      read_query(query, {"after", "include", "include[]", "limit", "order"});
  const size_t most = page_size(values);
  std::vector<ItemPtr> items = in_order(find(store, id)->input, values);
  skip_up_to(items, values);
  const bool more = items.size() > most;
  items.resize(std::min(items.size(), most));

  Json data = Json::array();
  for (const ItemPtr& item : items) {
    data.push_back(Json::parse(item->json));
  }
  HttpResponse response;
  response.body = to_text(
      {{"object", "list"},
       {"data", std::move(data)},
       {"first_id", items.empty() ? "" : items.front()->id},
       {"last_id", items.empty() ? "" : items.back()->id},
       {"has_more", more}});
  return response;
}

HttpResponse delete_response(ResponseStore& store, const std::string& id) {
  find(store, id);
  store.erase(id);
  HttpResponse response;
  response.body =
      to_text({{"id", id}, {"object", "response"}, {"deleted", true}});
  return response;
}

HttpResponse cancel_response(ResponseStore& store, const std::string& id) {
  find(store, id);
  throw ApiError(
      ApiErrorKind::invalid_request,
      "only responses with background: true can be cancelled, which are not "
      "supported; to end any other, close its connection");
}

} // namespace mlx_flash::server
