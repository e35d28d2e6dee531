#include "server/api_error.h"

#include "mlx_flash/error.h"

namespace mlx_flash::server {

int http_status(ApiErrorKind kind) {
  switch (kind) {
    case ApiErrorKind::invalid_request:
      return 400;
    case ApiErrorKind::unauthorized:
      return 401;
    case ApiErrorKind::forbidden:
      return 403;
    case ApiErrorKind::not_found:
      return 404;
    case ApiErrorKind::method_not_allowed:
      return 405;
    case ApiErrorKind::conflict:
      return 409;
    case ApiErrorKind::too_large:
      return 413;
    case ApiErrorKind::rate_limited:
      return 429;
    case ApiErrorKind::unavailable:
      return 503;
    case ApiErrorKind::timeout:
      return 504;
    case ApiErrorKind::internal:
      break;
  }
  return 500;
}

ApiError invalid_field(const std::string& field, const std::string& message) {
  return ApiError(ApiErrorKind::invalid_request, message).at(field);
}

namespace {

ApiErrorKind kind_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::unsupported:
      return ApiErrorKind::invalid_request;
    case ErrorCode::not_found:
      return ApiErrorKind::not_found;
    case ErrorCode::out_of_budget:
    case ErrorCode::cancelled:
      return ApiErrorKind::unavailable;
    case ErrorCode::bad_model:
    case ErrorCode::io:
    case ErrorCode::internal:
      break;
  }
  return ApiErrorKind::internal;
}

} // namespace

ApiError to_api_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ApiError& known) {
    return known;
  } catch (const Error& known) {
    return ApiError(kind_of(known.code()), known.what());
  } catch (const std::exception& other) {
    return ApiError(ApiErrorKind::internal, other.what());
  } catch (...) {
    return ApiError(ApiErrorKind::internal, "an unknown error");
  }
}

} // namespace mlx_flash::server
