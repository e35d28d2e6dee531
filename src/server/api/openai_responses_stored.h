// What a client can ask of a response that is kept: itself, its input page by
// page, and that it be forgotten.
//
// Thread rule: any thread.
#pragma once

#include <string>
#include <string_view>

#include "server/api/response_store.h"
#include "server/http/http.h"

namespace mlx_flash::server {

// All throw ApiError(not_found) for a response that is not here, and
// ApiError(invalid_request) that names what is wrong in `query`, a URL's as it
// came.
HttpResponse get_response(
    ResponseStore& store,
    const std::string& id,
    std::string_view query);
HttpResponse list_input_items(
    ResponseStore& store,
    const std::string& id,
    std::string_view query);
HttpResponse delete_response(ResponseStore& store, const std::string& id);
// Always throws: what could be cancelled is not supported.
HttpResponse cancel_response(ResponseStore& store, const std::string& id);

} // namespace mlx_flash::server
